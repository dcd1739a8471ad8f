"""`sosw-celery preview`: what a job would become, by the code that chunks it for real, and without any server."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import click

from sosw_celery.cli import Command
from sosw_celery.cli.output import json_option, number, print_fields, print_json
from sosw_celery.cli.runtime import load_services
from sosw_celery.core.chunking import check_labourer, check_payload_size, payload_text
from sosw_celery.errors import InvalidJob
from sosw_celery.services.scheduler import scheduler_class
from sosw_celery.settings import Settings

__all__ = ["Chunker", "Preview", "job_argument", "preview", "preview_of", "read_job"]

#: Payloads that are shown unless asked otherwise.
SAMPLE = 3

job_argument = click.argument(
    "source", metavar="JOB.json", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
)


class Chunker:
    """Chunks as the Scheduler of the settings does, without its stores, and keeps what the job is warned of."""

    def __init__(self, settings: Settings) -> None:
        nothing = cast(Any, None)  # chunking uses no store
        self.settings = settings
        self.warnings: list[str] = []
        self._scheduler = scheduler_class(settings)(
            settings,
            task_table=nothing,
            job_table=nothing,
            queue_files=nothing,
            announce=nothing,
            spawn=nothing,
            warned=self.warnings.append,
        )

    def checked(self, event: Any) -> tuple[dict[str, Any], Iterator[str]]:
        """Return the job of an event, checked whole, and the payloads of its tasks as text, made one by one.

        Raises:
            InvalidJob: At once when the job is wrong, with the task when one is too big, at the end when there is none.
        """
        job = self._scheduler.extract_job_from_payload(event)
        check_labourer(job["lambda_name"], self.settings.labourers)
        return job, self._texts(self._scheduler.payloads(job))

    def _texts(self, payloads: Iterator[Mapping[str, Any]]) -> Iterator[str]:
        text = None
        for payload in payloads:
            text = payload_text(payload)
            check_payload_size(text)
            yield text
        if text is None:
            raise InvalidJob("job", "expected a job that gives at least one task")


@dataclass
class Preview:
    """What a job would become. Sizes are bytes of payloads."""

    labourer_id: str
    tasks: int = 0
    smallest: int = 0
    largest: int = 0
    total: int = 0
    sample: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, text: str, sample: int) -> None:
        """Count a task in."""
        size = len(text)
        self.smallest = size if not self.tasks else min(size, self.smallest)
        self.largest = max(size, self.largest)
        self.total += size
        self.tasks += 1
        if len(self.sample) < sample:
            self.sample.append(text)


def preview_of(event: Any, settings: Settings, sample: int = SAMPLE) -> Preview:
    """Return what the job of an event would become.

    Raises:
        InvalidJob: It cannot become tasks.
    """
    chunker = Chunker(settings)
    job, texts = chunker.checked(event)
    found = Preview(job["lambda_name"], warnings=chunker.warnings)
    for text in texts:
        found.add(text, sample)
    return found


def read_job(source: Path) -> str | bytes:
    """Return the JSON text of a job file; `-` is standard input. Bytes that are no UTF-8 are left to the parser."""
    read = sys.stdin.buffer.read() if str(source) == "-" else source.read_bytes()
    try:
        return read.decode()
    except UnicodeDecodeError:
        return read


@click.command(
    cls=Command,
    examples=[
        "sosw-celery preview job.json",
        "sosw-celery preview job.json --format jsonl | head -3",
        'echo \'{"lambda_name": "code_census", "isolate_packages": true, "packages": ["json", "email"]}\' \\',
        "    | sosw-celery preview - --json",
    ],
)
@job_argument
@click.option(
    "--format",
    "shape",
    type=click.Choice(["text", "json", "jsonl"]),
    default="text",
    show_default=True,
    help="jsonl: the payload of every task, one JSON object a line.",
)
@click.option("--sample", type=click.IntRange(0), default=SAMPLE, show_default=True, help="Payloads to show of all.")
@json_option
def preview(source: Path, shape: str, sample: int, as_json: bool) -> None:
    """Show what a job would become: how many tasks, how big, and the first of them.

    JOB.json is a file, or - for standard input. Nothing is written and no server is asked.
    """
    settings = load_services().settings
    event = read_job(source)
    if shape == "jsonl":
        _print_payloads(event, settings)
        return
    found = preview_of(event, settings, sample)
    if as_json or shape == "json":
        _print_as_json(found, settings)
    else:
        _print_for_people(found, settings)


def _print_payloads(event: str | bytes, settings: Settings) -> None:
    """Print every payload as it is made; warnings go to stderr."""
    chunker = Chunker(settings)
    _, texts = chunker.checked(event)
    for warning in chunker.warnings:
        click.echo(f"warning: {warning}", err=True)
    out = sys.stdout
    for text in texts:
        out.write(text + "\n")
    out.flush()


def _print_as_json(found: Preview, settings: Settings) -> None:
    print_json(
        {
            "labourer_id": found.labourer_id,
            "tasks": found.tasks,
            "parts": _parts(found, settings),
            "payload_bytes": {"smallest": found.smallest, "largest": found.largest, "total": found.total},
            "sample": found.sample,
            "warnings": found.warnings,
        }
    )


def _print_for_people(found: Preview, settings: Settings) -> None:
    mean = round(found.total / found.tasks)
    print_fields(
        {
            "labourer": found.labourer_id,
            "cap": f"{number(settings.labourer(found.labourer_id).slots)} at once",
            "tasks": found.tasks,
            "queue files": _parts(found, settings),
            "payloads": f"{number(found.smallest)} to {number(found.largest)} bytes, {number(mean)} on average",
            "warnings": "\n".join(found.warnings),
        }
    )
    if not found.sample:
        return
    click.echo()
    click.echo(f"the first {number(len(found.sample))} of {number(found.tasks)}:")
    for text in found.sample:
        click.echo(f"  {text}")


def _parts(found: Preview, settings: Settings) -> int:
    return -(-found.tasks // settings.rows_per_file)
