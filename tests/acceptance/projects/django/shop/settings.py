"""Settings of the project: Django's, Celery's, and the section `sosw` among these."""

import os

SECRET_KEY = "of-this-test"
USE_TZ = True
INSTALLED_APPS = ["prices"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DATABASE"], "OPTIONS": {"timeout": 30}}
}

CELERY_BROKER_URL = os.environ["REDIS"]
CELERY_RESULT_BACKEND = os.environ["REDIS"]
CELERY_TASK_DEFAULT_QUEUE = "shop"
CELERY_SOSW = {
    "redis_url": os.environ["REDIS"],
    "redis_prefix": os.environ["NAME"],
    "dynamodb_endpoint": os.environ["DYNAMODB"],
    "aws_region": "eu-west-1",
    "queue_bucket": os.environ["FILES"],
    "task_config": {"dynamo_db_config": {"table_name": f"{os.environ['NAME']}_tasks"}},
    "job_schema": {"chunkable_attrs": ["article"]},
    "labourers": {
        "fetch_prices": {"max_simultaneous_invocations": 2, "duration": 30},
        "count_prices": {"max_simultaneous_invocations": 1, "duration": 30},
    },
    "sweep_s": 0.5,
    "safety_net_s": 1,
}
