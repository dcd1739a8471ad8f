"""Corrections to Celery and kombu, each until it is not needed any more."""
