"""`sosw-celery status`: what each labourer and each open job is at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sosw_celery import clock
from sosw_celery.cli import Command
from sosw_celery.cli.output import duration, json_option, number, print_json, print_table
from sosw_celery.cli.runtime import data_option, services_at
from sosw_celery.core.health import allowed
from sosw_celery.core.schedules import instant
from sosw_celery.core.tasks.durations import eta_s
from sosw_celery.core.tasks.model import JobSummary
from sosw_celery.errors import ItemCorrupt, JobNotFound
from sosw_celery.names import QUEUES
from sosw_celery.services.scheduled_jobs import LastTick, last_tick
from sosw_celery.services.strays import stray_jobs
from sosw_celery.stores.redis.node_registry import NodeNote
from sosw_celery.stores.redis.slots import Readiness
from sosw_celery.text import did_you_mean

if TYPE_CHECKING:
    from sosw_celery.wiring.container import Services

__all__ = ["COUNT_LIMIT", "LabourerStatus", "labourer_status", "not_served", "open_jobs", "status"]

#: Rows of a queue that are counted at most: reading all of a long one costs money and time.
COUNT_LIMIT = 10_000

#: Open jobs that are shown unless asked otherwise.
JOBS_SHOWN = 20


@dataclass(frozen=True)
class LabourerStatus:
    """What a labourer is at.

    Parameters:
        queued: Tasks in its queue, those handed out included; `COUNT_LIMIT` stands for that many or more.
        running: Slots whose attempt runs.
        handed_out: Slots whose hint waits for a worker.
        nodes, processes: Worker nodes that take messages from its queue, and the processes that they have for it and
            for whatever else they serve.
        cap: Slots in all: the number in force, or the configured one while slots are missing.
        health: Eco status 0 to 4 of the worst metric; None without metrics, or while one is not known.
        limit: Slots that its health leaves it.
        waiting: Tasks that wait for a retry; at most `COUNT_LIMIT`.
        slots: `ready`; else no slot is granted: `settling` for seconds after Redis came back empty, `missing` until the
            first dispatch.
        average_duration_s, max_duration_s: What its last tasks took; None when none was closed yet.
        eta_s: Seconds until nothing is queued, waiting or running if it goes on like this; None when that cannot be
            told: it is held back, no task was closed yet, or there is more than is counted.
    """

    labourer_id: str
    queued: int
    running: int
    handed_out: int
    cap: int
    waiting: int
    slots: Readiness
    health: int | None
    limit: int
    average_duration_s: float | None
    max_duration_s: float | None
    eta_s: float | None
    nodes: int
    processes: int


def labourer_status(services: Services, labourer_id: str, nodes: Sequence[NodeNote] = ()) -> LabourerStatus:
    """Return what a labourer is at, by counts that stop at `COUNT_LIMIT`.

    Parameters:
        nodes: The worker nodes of the cluster.
    """
    serving = [node for node in nodes if labourer_id in node.serves]
    share = services.ecology.share_of(labourer_id)
    usage = services.slots.look(labourer_id, share=share)
    table = services.task_table
    labourer = services.durations.measured(services.settings.labourer(labourer_id))
    queued = table.count_queued(labourer_id, now=clock.now(), at_most=COUNT_LIMIT)
    waiting = table.count_waiting(labourer_id, at_most=COUNT_LIMIT)
    cap = usage.cap or labourer.slots  # nothing is in force while the slots are missing
    limit = allowed(cap, share)
    eco_status = services.ecology.health_of(labourer_id).status if labourer.health_metrics else None
    return LabourerStatus(
        labourer_id=labourer_id,
        queued=min(COUNT_LIMIT, queued),
        running=usage.running,
        handed_out=usage.pending,
        cap=cap,
        waiting=min(COUNT_LIMIT, waiting),
        slots=usage.ready,
        health=None if eco_status is None else int(eco_status),
        limit=limit,
        average_duration_s=labourer.average_duration_s,
        max_duration_s=labourer.max_duration_s,
        eta_s=eta_s(
            queued=queued + waiting,
            running=usage.running,
            slots=limit,
            average_s=labourer.average_duration_s,
            rate=labourer.rate,
        )
        if max(queued, waiting) < COUNT_LIMIT
        else None,
        nodes=len(serving),
        processes=sum(node.note.get("capacity", 0) for node in serving),
    )


def not_served(services: Services, nodes: Sequence[NodeNote], labourers: Iterable[str]) -> list[str]:
    """Return a line for each thing that nobody does: the system's own work, and that of these labourers."""
    served = {queue for node in nodes for queue in node.serves}
    own = [queue for queue in dict.fromkeys(QUEUES.values()) if queue not in served]
    lines = [f"no worker serves {', '.join(own)}: celery -A sosw_celery worker -Q {','.join(own)}"] if own else []
    for labourer_id in dict.fromkeys(labourers):
        if labourer_id not in services.settings.labourers:
            known = did_you_mean(labourer_id, services.settings.labourers)
            lines.append(f"labourer {labourer_id} is not configured, its tasks wait until it is{known}")
        elif labourer_id not in served:
            lines.append(f"no worker serves {labourer_id}: celery -A sosw_celery worker -Q {labourer_id}")
    return lines


def open_jobs(services: Services, limit: int) -> list[JobSummary]:
    """Return the jobs that have not ended, at most `limit`."""
    found = []
    for job_id in islice(services.job_table.unfinished(limit), limit):
        try:
            found.append(services.job_table.get(job_id))
        except (JobNotFound, ItemCorrupt):  # the index was behind, or somebody changed the job by hand
            continue
    return found


def scheduled_jobs(services: Services) -> list[LastTick]:
    """Return what became of the last tick of each scheduled job."""
    now = instant(clock.now())
    settings = services.settings
    return [last_tick(settings, name, now, services.job_table.get) for name in settings.scheduled_jobs]


def refused_ticks(ticks: Iterable[LastTick]) -> list[str]:
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
    nodes = services.nodes.all()
    labourers = [labourer_status(services, labourer_id, nodes) for labourer_id in services.settings.labourers]
    jobs = open_jobs(services, job_limit)
    strays = stray_jobs(services.job_table, services.settings.labourers)
    ticks = scheduled_jobs(services)
    warnings = not_served(services, nodes, [*services.settings.labourers, *strays])
    warnings += refused_ticks(ticks)
    if as_json:
        print_json(
            {
                "labourers": [{**asdict(labourer), "count_limit": COUNT_LIMIT} for labourer in labourers],
                "jobs": [job.as_dict() for job in jobs],
                "scheduled_jobs": [_as_dict(tick) for tick in ticks],
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
            for labourer in labourers
        ],
    )
    for line in warnings:
        click.echo(f"warning: {line}", err=True)
    click.echo()
    _print_ticks(ticks)
    if not jobs:
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
            for job in jobs
        ],
    )


def _print_ticks(ticks: Sequence[LastTick]) -> None:
    if ticks:
        print_table(
            ["scheduled job", "last tick", "its job", "next tick"],
            [(tick.name, _time(tick.planned_at), tick.state, _time(tick.next_at)) for tick in ticks],
        )
        click.echo()


def _as_dict(tick: LastTick) -> dict[str, Any]:
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
