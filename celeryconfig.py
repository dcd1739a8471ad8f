"""Configuration of the app `sosw_celery`: Celery's own settings in lower case, and the `sosw` section.

Addresses come from the environment, so that one file serves a laptop, a container and production.
"""

import os

redis_url = os.environ.get("SOSW_REDIS_URL", "redis://127.0.0.1:6379/0")

broker_url = os.environ.get("SOSW_BROKER_URL", redis_url)
result_backend = os.environ.get("SOSW_RESULT_BACKEND", redis_url)

# Modules with labourers: every worker knows them all, and runs those whose queue it is given with -Q.
imports = ("workers.count_words", "workers.fetch_pages")

sosw = {
    "redis_url": redis_url,
    "dynamodb_endpoint": os.environ.get("SOSW_DYNAMODB_ENDPOINT"),
    "queue_bucket": os.environ.get("SOSW_QUEUE_BUCKET", "file:///var/tmp/sosw-celery-queue"),
    "job_schema": {"chunkable_attrs": ["source", "document"]},
    "labourers": {
        "count_words": {"max_simultaneous_invocations": 3, "duration": 60, "max_attempts": 5},
        "fetch_pages": {"max_simultaneous_invocations": 2, "duration": 60, "max_attempts": 5},
    },
}
