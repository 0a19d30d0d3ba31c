"""The site as an application."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

from integration.wsgi.apps.checked import checked

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "integration.wsgi.apps.django_site.settings")

plain = get_wsgi_application()

application = checked(plain)
