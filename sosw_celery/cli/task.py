"""`sosw-celery task`: a task, wherever it is."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from sosw_celery import clock
from sosw_celery.cli import Command
from sosw_celery.cli.job import time_text
from sosw_celery.cli.output import json_option, print_fields, print_json
from sosw_celery.cli.runtime import data_option, services_at
from sosw_celery.core import greenfield
from sosw_celery.settings import greenfield_delta
from sosw_celery.stores.task_table import Found

__all__ = ["state_of", "task", "task_fields"]


def state_of(found: Found, now: Decimal) -> str:
    """Return the state of a task, by the words of a task's life."""
    row = found.task
    if found.where == "closed":
        return "closed, dead" if found.dead else "closed, completed"
    if found.where == "retry":
        return "waiting for retry"
    if row.completed_at is not None:
        return "completed, not archived yet"
    return "queued" if row.greenfield <= greenfield.queue_end(now) else "running"


def task_fields(found: Found, now: Decimal, delta: Decimal) -> dict[str, Any]:
    """Return what people read about a task, by its labels, in the order of its life."""
    row = found.task
    was_claimed = row.greenfield > greenfield.queue_end(now)
    return {
        "task": row.task_id,
        "labourer": row.labourer_id,
        "job": row.job_id,
        "state": state_of(found, now),
        "created": time_text(row.created_at),
        "claimed": time_text(greenfield.claimed_at(row.greenfield, delta)) if was_claimed else "",
        "attempts": row.attempts,
        "failed": row.failed_attempts,
        "retry due": time_text(row.desired_launch_time),
        "completed": time_text(row.completed_at),
        "closed": time_text(row.closed_at),
        **{name: _text(value) for name, value in sorted(row.extra.items())},
        "arn": row.arn,
        "payload": _pretty(row.payload),
    }


def task_dict(found: Found, now: Decimal) -> dict[str, Any]:
    """Return everything on the row as JSON can hold it, with its state and the table that holds it."""
    row = found.task
    return {
        "task_id": row.task_id,
        "labourer_id": row.labourer_id,
        "job_id": row.job_id,
        "state": state_of(found, now),
        "table": found.where,
        "created_at": row.created_at,
        "greenfield": row.greenfield,
        "attempts": row.attempts,
        "failed_attempts": row.failed_attempts,
        "desired_launch_time": row.desired_launch_time,
        "completed_at": row.completed_at,
        "closed_at": row.closed_at,
        "arn": row.arn,
        "payload": _parsed(row.payload),
        **row.extra,
    }


def _parsed(payload: str) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return payload


def _pretty(payload: str) -> str:
    parsed = _parsed(payload)
    return payload if isinstance(parsed, str) else json.dumps(parsed, indent=2, ensure_ascii=False)


def _text(value: Any) -> Any:
    return value if isinstance(value, (str, int)) else json.dumps(value, default=str, ensure_ascii=False)


@click.command(
    cls=Command,
    examples=[
        "sosw-celery task 5a0d5c8e-6f0c-5d8e-9d0e-2f6f0c1b7a11",
        "sosw-celery task TASK_ID --json | jq .payload",
    ],
)
@click.argument("task_id")
@data_option
@json_option
def task(task_id: str, data: Path, as_json: bool) -> None:
    """Show a task, wherever it is: queued, running, waiting for a retry, or closed."""
    services = services_at(data)
    found = services.task_table.find(task_id, list(services.settings.labourers))
    now = clock.now()
    if as_json:
        print_json(task_dict(found, now))
    else:
        print_fields(task_fields(found, now, greenfield_delta(services.settings)))
