"""The app of the project: its own settings, and the system on it."""

from __future__ import annotations

import os

from celery import Celery

from sosw_celery import install

app = install(Celery("proj", broker=os.environ["REDIS"], backend=os.environ["REDIS"]))
app.conf.update(
    task_routes={"proj.tasks.add": {"queue": "sums"}},
    sosw={
        "redis_url": os.environ["REDIS"],
        "redis_prefix": os.environ["NAME"],
        "dynamodb_endpoint": os.environ["DYNAMODB"],
        "aws_region": "eu-west-1",
        "queue_bucket": os.environ["FILES"],
        "task_config": {"dynamo_db_config": {"table_name": f"{os.environ['NAME']}_tasks"}},
        "job_schema": {"chunkable_attrs": ["shop"]},
        "labourers": {
            "fetch_prices": {"max_simultaneous_invocations": 2, "duration": 30},
            "count_shops": {"max_simultaneous_invocations": 1, "duration": 30},
        },
        "sweep_s": 0.5,
        "safety_net_s": 1,
    },
)
app.autodiscover_tasks(["proj"])
