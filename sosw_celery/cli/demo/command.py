"""The command `demo`: servers and a place for logs around the story, and how it ends."""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from sosw_celery.cli import Command
from sosw_celery.cli.demo.show import Screen, show_checks, show_found, show_outcomes
from sosw_celery.cli.output import console, json_option, print_json
from sosw_celery.cli.processes import Processes
from sosw_celery.cli.runtime import CONFIG_MODULE, end_on_sigterm
from sosw_celery.local import LocalStack
from sosw_celery.system.exits import CommandFailed

if TYPE_CHECKING:
    from sosw_celery.cli.demo.story import Ending

__all__ = ["demo", "show_demo"]

#: Lines of each log that are shown when the demo fails.
TAIL_LINES = 12


@click.command(
    cls=Command,
    examples=["sosw-celery demo", "sosw-celery demo --modules 200", "sosw-celery demo --json > outcome.json"],
)
@click.option("--modules", type=click.IntRange(20), help="Modules to read at most. Default: more than a thousand.")
@json_option
def demo(modules: int | None, as_json: bool) -> None:
    """Run nested jobs on this machine, kill a worker on the way, and check the outcome.

    Two labourers read the Python packages of this machine, on a real Redis, a real DynamoDB engine and real Celery
    workers, which are started for it and ended with it. Exit code 0 only if nothing was lost, doubled or over the cap.
    """
    show_demo(console(err=as_json), modules, as_json=as_json)


def show_demo(out: Console, modules: int | None = None, *, as_json: bool = False) -> None:
    """Run the demo and show it on a console; return only if all of it held.

    Raises:
        CommandFailed: A process ended by itself, the jobs did not end in time, or a check does not hold. The end of
            each log was printed on stderr.
    """
    end_on_sigterm()
    logs = Path(tempfile.mkdtemp(prefix="sosw-celery-demo-"))
    try:
        ending = _tell(out, logs, modules)
    except KeyboardInterrupt:
        shutil.rmtree(logs, ignore_errors=True)
        raise
    except BaseException:
        _show_logs(logs)
        raise
    if as_json:
        print_json(ending.as_dict())
    show_outcomes(out, ending.outcomes)
    show_found(out, ending.outcomes)
    show_checks(out, ending.checks, ending.seconds)
    if not ending.holds:
        _show_logs(logs)
        raise CommandFailed("the outcome is not what it should be")
    shutil.rmtree(logs, ignore_errors=True)


def _tell(out: Console, logs: Path, modules: int | None) -> Ending:
    """Tell the story with its servers around it; they have ended when this returns."""
    with Screen(out) as screen, LocalStack() as stack:
        screen.event("Redis and DynamoDB are up")
        os.environ.update(stack.environment(), **{CONFIG_MODULE: "sosw_celery.cli.demo.config"})
        # The example labourers belong to the app, which takes its configuration from the environment on import.
        story = importlib.import_module("sosw_celery.cli.demo.story")
        scratch = logs / "tmp"
        scratch.mkdir()
        # A killed process leaves its temporary files behind; they go with the logs.
        with Processes({**os.environ, "TMPDIR": str(scratch)}, logs) as processes:
            ending: Ending = story.tell(processes, screen, modules)
        return ending


def _show_logs(logs: Path) -> None:
    """Print the end of each log on stderr, and where they are."""
    shutil.rmtree(logs / "tmp", ignore_errors=True)
    for log in sorted(logs.glob("*.log")):
        lines: Sequence[str] = log.read_text(errors="replace").splitlines()
        click.echo(f"--- {log.name}", err=True)
        click.echo("\n".join(lines[-TAIL_LINES:]), err=True)
    click.echo(f"the logs are in {logs}", err=True)
