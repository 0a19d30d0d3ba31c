"""As `startproject` writes them, for a site in a directory of its own."""

from __future__ import annotations

import os
from pathlib import Path

_DIRECTORY = Path(os.environ["EXERCISE_DIRECTORY"], "django")

SECRET_KEY = "not a secret"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "integration.wsgi.apps.django_site.urls"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": _DIRECTORY / "db.sqlite3",
        "OPTIONS": {"timeout": 20},
    }
}
# Quick: what it protects is the test of a login.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# Nginx serves it.
STATIC_URL = "static/"
# Beyond it, an uploaded file is spooled to disk.
FILE_UPLOAD_MAX_MEMORY_SIZE = 100_000
FILE_UPLOAD_TEMP_DIR = _DIRECTORY
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
