"""A Django project; its Celery app is loaded with it, as Celery's own guide has it."""

from shop.celery import app as celery_app

__all__ = ["celery_app"]
