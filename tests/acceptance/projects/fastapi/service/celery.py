"""The Celery app of the service."""

import os

from celery import Celery

from sosw_celery import install

app = install(
    Celery("service", broker=os.environ["REDIS"], include=["service.tasks"]),
    {
        "redis_url": os.environ["REDIS"],
        "redis_prefix": os.environ["NAME"],
        "dynamodb_endpoint": os.environ["DYNAMODB"],
        "aws_region": "eu-west-1",
        "queue_bucket": os.environ["FILES"],
        "task_config": {"dynamo_db_config": {"table_name": f"{os.environ['NAME']}_tasks"}},
        "job_schema": {"chunkable_attrs": ["town"]},
        "labourers": {"make_report": {"max_simultaneous_invocations": 2, "duration": 30}},
        "sweep_s": 0.5,
        "safety_net_s": 1,
    },
)
