"""The Celery app of the project, as Celery's guide for Django has it, and the system on it."""

import os

from celery import Celery

from sosw_celery import install

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

app = install(Celery("shop"))
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
