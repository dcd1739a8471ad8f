"""`sosw-celery status`: what each labourer and each open job is at."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from sosw_celery.cli import Command
from sosw_celery.cli.output import duration, json_option, number, print_json, print_table
from sosw_celery.cli.runtime import data_option, services_at, shown_app_name
from sosw_celery.services.overview import COUNT_LIMIT, LabourerStatus, NotServed
from sosw_celery.services.scheduled_jobs import LastTick
from sosw_celery.text import did_you_mean

__all__ = ["not_served_lines", "status"]

#: Open jobs that are shown unless asked otherwise.
JOBS_SHOWN = 20


def not_served_lines(found: NotServed, labourers: Collection[str]) -> list[str]:
    """Return a line for each thing that nobody does, with what would help.

    Parameters:
        labourers: Those that are configured.
    """
    own = ",".join(found.own)
    worker = f"celery -A {shown_app_name()} worker -Q"
    lines = [f"no worker serves {', '.join(found.own)}: {worker} {own}"] if own else []
    lines += [f"no worker serves {one}: {worker} {one}" for one in found.labourers]
    lines += [
        f"labourer {one} is not configured, its tasks wait until it is{did_you_mean(one, labourers)}"
        for one in found.not_configured
    ]
    return lines


def _refused_lines(ticks: Iterable[LastTick]) -> list[str]:
    """Return a line for each scheduled job whose last tick was refused."""
    return [
        f"scheduled job {tick.name} is refused, last tick {_time(tick.planned_at)}: {tick.error}"
        for tick in ticks
        if tick.error
    ]


@click.command(
    cls=Command,
    examples=["sosw-celery status", "sosw-celery status --json | jq '.labourers[] | select(.queued > 0)'"],
)
@click.option(
    "--jobs", "job_limit", type=click.IntRange(0, 1000), default=JOBS_SHOWN, show_default=True, help="Jobs to show."
)
@data_option
@json_option
def status(job_limit: int, data: Path, as_json: bool) -> None:
    """Show what each labourer and each open job is at.

    Queues are counted up to 10,000 tasks. Workers are the processes of nodes that serve the labourer's queue.
    """
    services = services_at(data)
    found = services.overview.system(job_limit)
    warnings = not_served_lines(found.not_served, services.settings.labourers) + _refused_lines(found.ticks)
    if as_json:
        print_json(
            {
                "labourers": [_labourer_dict(labourer) for labourer in found.labourers],
                "jobs": [job.as_dict() for job in found.jobs],
                "scheduled_jobs": [_tick_dict(tick) for tick in found.ticks],
                "warnings": warnings,
            }
        )
        return
    print_table(
        ["labourer", "queued", "running", "handed out", "retry", "workers", "slots", "health", "ETA"],
        [
            (
                labourer.labourer_id,
                _counted(labourer.queued),
                f"{labourer.running}/{labourer.cap}",
                labourer.handed_out,
                _counted(labourer.waiting),
                labourer.processes,
                labourer.slots,
                _health(labourer),
                duration(labourer.eta_s),
            )
            for labourer in found.labourers
        ],
    )
    for line in warnings:
        click.echo(f"warning: {line}", err=True)
    click.echo()
    _print_ticks(found.ticks)
    if not found.jobs:
        click.echo("no open jobs" if job_limit else "jobs not asked for")
        return
    print_table(
        ["job", "labourer", "state", "tasks", "written", "completed", "dead"],
        [
            (
                job.job_id,
                job.labourer_id,
                job.state.value,
                "-" if job.tasks is None else number(job.tasks),
                job.written,
                job.completed,
                job.dead,
            )
            for job in found.jobs
        ],
    )


def _print_ticks(ticks: Sequence[LastTick]) -> None:
    if ticks:
        print_table(
            ["scheduled job", "last tick", "its job", "next tick"],
            [(tick.name, _time(tick.planned_at), tick.state, _time(tick.next_at)) for tick in ticks],
        )
        click.echo()


def _labourer_dict(labourer: LabourerStatus) -> dict[str, Any]:
    return {**asdict(labourer), "count_limit": COUNT_LIMIT}


def _tick_dict(tick: LastTick) -> dict[str, Any]:
    times = {"planned_at": _time(tick.planned_at), "next_at": _time(tick.next_at)}
    return {**asdict(tick), **{name: None if time == "-" else time for name, time in times.items()}}


def _time(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment:%Y-%m-%dT%H:%M:%S}Z"


def _counted(count: int) -> str:
    return number(count, at_least=count >= COUNT_LIMIT)


def _health(labourer: LabourerStatus) -> str:
    """Say the eco status and what it leaves, nothing where all slots may be used."""
    if labourer.limit == labourer.cap:
        return "-" if labourer.health is None else str(labourer.health)
    status = "?" if labourer.health is None else str(labourer.health)
    return f"{status}: {labourer.limit} of {labourer.cap}"
