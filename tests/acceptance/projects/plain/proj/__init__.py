"""A project with a Celery app of its own, and the system on it."""
