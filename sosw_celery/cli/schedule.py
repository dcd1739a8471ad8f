"""`sosw-celery schedule`: submit a job, and wait for its end if asked to."""

from __future__ import annotations

import contextlib
import importlib
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from sosw_celery.cli import Command
from sosw_celery.cli.job import job_fields
from sosw_celery.cli.output import console, duration, json_option, number, print_fields, print_json
from sosw_celery.cli.preview import job_argument, read_job
from sosw_celery.cli.runtime import command_app, data_option, end_on_sigterm, services_at
from sosw_celery.cli.status import not_served_lines
from sosw_celery.core.tasks.model import JobState, JobSummary
from sosw_celery.errors import StoreError
from sosw_celery.services.preview import Chunker
from sosw_celery.system.exits import CommandFailed, ExitCode

if TYPE_CHECKING:
    from sosw_celery.wiring.container import Services

__all__ = ["schedule", "submit", "wait_for"]

#: Seconds between two looks at the job.
POLL_S = 0.5
#: Seconds between two lines of progress where no bar can be drawn.
LINE_S = 5.0
#: Seconds without progress after which one looks for workers.
PATIENCE_S = 10.0

Show = Callable[[JobSummary], None]


def submit(job: dict[str, Any]) -> str:
    """Have a job accepted, as `scheduler.delay(job)` does, and return its id. Load the configuration first.

    Raises:
        StoreUnavailable: Whether it was accepted is not known; submit it again with the same `job_id`.
    """
    scheduler = importlib.import_module("sosw_celery.system.scheduler_task").scheduler_of(command_app())
    message_id = str(uuid.uuid4())
    scheduler.apply_async(args=(job,), task_id=message_id, ignore_result=True)
    return str(job.get("job_id", message_id))


def wait_for(services: Services, job_id: str, show: Show, timeout_s: float | None = None) -> JobSummary | None:
    """Return where the job stands when it has ended; None when the time passed before that."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        summary = services.overview.job(job_id)
        show(summary)
        if summary.state.is_ended:
            return summary
        left = POLL_S if deadline is None else min(POLL_S, deadline - time.monotonic())
        if left <= 0:
            return None
        time.sleep(left)


@click.command(
    cls=Command,
    examples=[
        "sosw-celery schedule job.json",
        "sosw-celery schedule job.json --job-id nightly-2026-02-01 --wait --timeout 3600",
        "sosw-celery preview job.json && sosw-celery schedule job.json --wait --json",
    ],
)
@job_argument
@click.option("--job-id", help="The job's id; submitting the same id twice is submitting once.")
@click.option("--wait", is_flag=True, help="Show progress until the job has ended.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(0), help="Seconds to wait at most; with --wait.")
@data_option
@json_option
def schedule(source: Path, job_id: str | None, wait: bool, timeout_s: float | None, data: Path, as_json: bool) -> None:
    """Submit a job and print its id. Once the id is printed, the job cannot be lost.

    JOB.json is a file, or - for standard input. With --wait the exit code tells how the job ended.
    """
    if timeout_s is not None and not wait:
        raise click.UsageError("--timeout needs --wait")
    end_on_sigterm()
    services = services_at(data)
    # Checked whole first: what is accepted below is looked at more deeply only by the Scheduler.
    job, _ = Chunker(services.settings).checked(read_job(source))
    accepted = submit({**job, "job_id": job_id} if job_id else job)
    if not wait:
        _print_id(accepted, job["lambda_name"], as_json)
        return
    if not as_json:
        click.echo(accepted)
    with _progress(console(err=True), _Nudge(services)) as show:
        summary = wait_for(services, accepted, show, timeout_s)
    if summary is None:
        raise CommandFailed(f"job {accepted} has not ended after {duration(timeout_s)}; it goes on", ExitCode.TIMEOUT)
    _print_end(summary, as_json)


def _print_id(job_id: str, labourer_id: str, as_json: bool) -> None:
    if as_json:
        print_json({"job_id": job_id, "labourer_id": labourer_id})
    else:
        click.echo(job_id)


def _print_end(summary: JobSummary, as_json: bool) -> None:
    if as_json:
        print_json(summary.as_dict())
    elif summary.state is not JobState.REFUSED:
        print_fields({name: value for name, value in job_fields(summary).items() if name != "job"})
    if summary.state is JobState.REFUSED:
        raise CommandFailed(summary.error, ExitCode.INVALID_JOB)
    if summary.dead:
        raise CommandFailed(
            f"{number(summary.dead)} of {number(summary.tasks or 0)} tasks are dead", ExitCode.DEAD_TASKS
        )


@contextlib.contextmanager
def _progress(out: Console, nudge: _Nudge) -> Iterator[Show]:
    """Give a function that shows where the job stands: as a bar, or every few seconds as a line."""
    if not out.is_terminal:
        yield _Lines(nudge)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(show_speed=True),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=out, transient=True) as progress:
        bar = progress.add_task("accepted", total=None)

        def show(summary: JobSummary) -> None:
            if text := nudge(summary):
                progress.console.print(text, style="yellow")
            done = summary.completed + summary.dead
            progress.update(bar, description=summary.state.value, total=summary.tasks, completed=done)

        yield show


class _Lines:
    """Prints a line about the job on stderr every few seconds, and at its end."""

    def __init__(self, nudge: _Nudge) -> None:
        self._next = 0.0
        self._nudge = nudge

    def __call__(self, summary: JobSummary) -> None:
        if text := self._nudge(summary):
            click.echo(text, err=True)
        if time.monotonic() < self._next and not summary.state.is_ended:
            return
        self._next = time.monotonic() + LINE_S
        tasks = "?" if summary.tasks is None else number(summary.tasks)
        click.echo(f"{summary.state.value}: {number(summary.completed + summary.dead)} of {tasks} tasks", err=True)


class _Nudge:
    """Says once what may be missing when a job does not move."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._moved_at = time.monotonic()
        self._seen: object = None
        self._said = False

    def __call__(self, summary: JobSummary) -> str:
        seen = (summary.state, summary.written, summary.completed, summary.dead)
        if seen != self._seen:
            self._seen, self._moved_at = seen, time.monotonic()
        if self._said or summary.state.is_ended or time.monotonic() - self._moved_at < PATIENCE_S:
            return ""
        self._moved_at = time.monotonic()
        with contextlib.suppress(StoreError):  # the job can be waited for without Redis
            missing = self._services.overview.not_served([summary.labourer_id])
            self._said = bool(missing)
            return "; ".join(not_served_lines(missing, self._services.settings.labourers))
        return ""
