"""`sosw-celery preview`: what a job would become, by the code that chunks it for real, and without any server."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sosw_celery.cli import Command
from sosw_celery.cli.output import json_option, number, print_fields, print_json
from sosw_celery.cli.runtime import load_services
from sosw_celery.config.settings import Settings
from sosw_celery.services.preview import SAMPLE, Chunker, Preview, preview_of

__all__ = ["job_argument", "preview", "read_job"]

job_argument = click.argument(
    "source", metavar="JOB.json", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
)


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
        'echo \'{"lambda_name": "count_words", "isolate_sources": true, "sources": ["docs", "tests"]}\' \\',
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
