"""What a Celery app of the system runs."""
