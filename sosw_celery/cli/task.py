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

from sosw_celery import clock
from sosw_celery.cli import Command
from sosw_celery.cli.job import time_text
from sosw_celery.cli.output import json_option, print_fields, print_json, print_table
from sosw_celery.cli.runtime import data_option, given_id, services_at
from sosw_celery.config.settings import greenfield_delta
from sosw_celery.core.exact import EXACT
from sosw_celery.core.tasks import greenfield
from sosw_celery.core.tasks.history import Event
from sosw_celery.errors import StoreError
from sosw_celery.stores.dynamodb.task_table import Found

if TYPE_CHECKING:
    from sosw_celery.wiring.container import Services

__all__ = ["history_of", "history_rows", "state_of", "task", "task_fields"]


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
@click.argument("task_id", callback=given_id)
@data_option
@json_option
def task(task_id: str, data: Path, as_json: bool) -> None:
    """Show a task, wherever it is: queued, running, waiting for a retry, or closed; and its history, if one is kept."""
    services = services_at(data)
    found = services.task_table.find(task_id, list(services.settings.labourers))
    events = history_of(services, task_id)
    now = clock.now()
    if as_json:
        shown = task_dict(found, now)
        print_json(shown if events is None else {**shown, "history": [event_dict(event) for event in events]})
        return
    print_fields(task_fields(found, now, greenfield_delta(services.settings)))
    if events:
        click.echo()
        print_table(("at", "action", "attempt", "author", "invocation", "node", "more"), history_rows(events))


def history_of(services: Services, task_id: str) -> list[Event] | None:
    """Return the events of a task in their order; None where no history is kept or it cannot be read, which is said."""
    config = services.settings.meta_handler_config
    if config is None or not config.write_meta_to_ddb:
        return None
    try:
        return services.meta_table.history(task_id)
    except StoreError as problem:
        click.echo(f"no history: {problem}", err=True)
        return None


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
