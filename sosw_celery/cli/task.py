"""`sosw-celery task`: a task, wherever it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sosw_celery.cli import Command
from sosw_celery.cli.job import time_text
from sosw_celery.cli.output import json_option, print_fields, print_json, print_table
from sosw_celery.cli.runtime import data_option, given_id, services_at
from sosw_celery.core.exact import EXACT
from sosw_celery.core.tasks.history import Event

if TYPE_CHECKING:
    from sosw_celery.services.overview import TaskStatus

__all__ = ["history_rows", "task", "task_dict", "task_fields"]


def task_fields(status: TaskStatus) -> dict[str, Any]:
    """Return what people read about a task, by its labels, in the order of its life."""
    row = status.row
    return {
        "task": row.task_id,
        "labourer": row.labourer_id,
        "job": row.job_id,
        "state": status.state.value,
        "created": time_text(row.created_at),
        "claimed": time_text(status.claimed_at),
        "attempts": row.attempts,
        "failed": row.failed_attempts,
        "retry due": time_text(row.desired_launch_time),
        "completed": time_text(row.completed_at),
        "closed": time_text(row.closed_at),
        **{name: _text(value) for name, value in sorted(row.extra.items())},
        "arn": row.arn,
        "payload": _pretty(row.payload),
    }


def task_dict(status: TaskStatus) -> dict[str, Any]:
    """Return what is known of a task as JSON can hold it: all of its row, and its history if there is one."""
    row = status.row
    return {
        "task_id": row.task_id,
        "labourer_id": row.labourer_id,
        "job_id": row.job_id,
        "state": status.state.value,
        "table": status.table,
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
        **({} if status.history is None else {"history": [event_dict(event) for event in status.history]}),
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
@click.argument("task_id", callback=given_id)
@data_option
@json_option
def task(task_id: str, data: Path, as_json: bool) -> None:
    """Show a task, wherever it is: queued, running, waiting for a retry, or closed; and its history, if one is kept."""
    found = services_at(data).overview.task(task_id)
    if found.history_problem:
        click.echo(f"no history: {found.history_problem}", err=True)
    if as_json:
        print_json(task_dict(found))
        return
    print_fields(task_fields(found))
    if found.history:
        click.echo()
        print_table(("at", "action", "attempt", "author", "invocation", "node", "more"), history_rows(found.history))


def history_rows(events: Sequence[Event]) -> list[tuple[Any, ...]]:
    """Return what people read about events, by the columns of the table."""
    return [
        (
            exact_time_text(event.created_at),
            event.action,
            event.extra.get("attempts", ""),
            event.origin.author,
            event.origin.invocation_id,
            event.origin.log_stream_name,
            ", ".join(f"{name}={_text(value)}" for name, value in sorted(_own_fields(event).items())),
        )
        for event in events
    ]


def event_dict(event: Event) -> dict[str, Any]:
    """Return an event as its row has it."""
    return {"created_at": event.created_at, "action": event.action, **asdict(event.origin), **event.extra}


def exact_time_text(at: Decimal) -> str:
    """Return a time for people, in UTC, to the microsecond."""
    seconds, microseconds = divmod(int(EXACT.scaleb(at, 6)), 1_000_000)
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M:%S}.{microseconds:06d}"


def _own_fields(event: Event) -> dict[str, Any]:
    return {name: value for name, value in event.extra.items() if name not in ("labourer_id", "attempts")}
