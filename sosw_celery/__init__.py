"""sosw-celery: one business job becomes a hundred thousand Celery tasks, none lost, never more than N at once."""
