"""The rules of sosw-celery as pure functions and values: no client, no clock, no environment, no randomness."""
