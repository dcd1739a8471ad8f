"""The `celeryconfig` of the demo: its two labourers, and the addresses of the servers it has started.

A module of its own, so that the demo runs from any directory and whatever stands in the celeryconfig there.
"""

from __future__ import annotations

import os

broker_url = result_backend = os.environ["SOSW_REDIS_URL"]

imports = ("sosw_celery.cli.demo.census.code", "sosw_celery.cli.demo.census.imports")

sosw = {
    "redis_url": os.environ["SOSW_REDIS_URL"],
    "dynamodb_endpoint": os.environ["SOSW_DYNAMODB_ENDPOINT"],
    "queue_bucket": os.environ["SOSW_QUEUE_BUCKET"],
    "job_schema": {"chunkable_attrs": ("package", "module")},
    # A hint that a node took with it when it died is given up after this time, sooner than the node's leases end.
    "hint_lease_s": 10,
    "labourers": {
        "code_census": {"max_simultaneous_invocations": 3, "duration": 60, "max_attempts": 5},
        "import_census": {"max_simultaneous_invocations": 2, "duration": 60, "max_attempts": 5},
    },
}
