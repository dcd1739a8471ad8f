"""`sosw-celery job`: how far a job is."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from sosw_celery.cli import Command
from sosw_celery.cli.output import json_option, number, print_fields, print_json
from sosw_celery.cli.runtime import data_option, given_id, services_at
from sosw_celery.core.tasks.model import JobSummary

__all__ = ["job", "job_fields", "time_text"]


def job_fields(summary: JobSummary) -> dict[str, Any]:
    """Return what people read about a job, by its labels."""
    tasks = "not known yet" if summary.tasks is None else number(summary.tasks)
    return {
        "job": summary.job_id,
        "labourer": summary.labourer_id,
        "state": summary.state.value,
        "accepted": time_text(summary.accepted_at),
        **({} if summary.not_before is None else {"not before": time_text(summary.not_before)}),
        "tasks": tasks,
        "written": summary.written,
        "completed": summary.completed,
        "dead": summary.dead,
        "error": summary.error,
        "warnings": "\n".join(summary.warnings),
    }


def time_text(seconds: Decimal | None) -> str:
    """Return a time of the tables as people write it, in UTC; empty for none."""
    if seconds is None:
        return ""
    try:
        moment = datetime.datetime.fromtimestamp(float(seconds), datetime.timezone.utc)
    except (OverflowError, ValueError, OSError):
        return f"{seconds:f}"
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


@click.command(
    cls=Command, examples=["sosw-celery job nightly-2026-02-01", "sosw-celery job JOB_ID --json | jq .state"]
)
@click.argument("job_id", callback=given_id)
@data_option
@json_option
def job(job_id: str, data: Path, as_json: bool) -> None:
    """Show how far a job is."""
    summary = services_at(data).overview.job(job_id)
    if as_json:
        print_json(summary.as_dict())
    else:
        print_fields(job_fields(summary))
