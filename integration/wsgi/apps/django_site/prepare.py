"""Make the database, with one user who may do everything; run once before the site is served."""

from __future__ import annotations

import os

import django
from django.core.management import call_command

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "integration.wsgi.apps.django_site.settings")

if __name__ == "__main__":
    django.setup()
    from django.contrib.auth.models import User

    call_command("migrate", verbosity=0)
    User.objects.create_superuser("ada", password="lovelace")
