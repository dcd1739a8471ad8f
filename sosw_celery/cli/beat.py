"""`sosw-celery beat`: the clock of the system alone, beside a beat that has a scheduler of its own."""

from __future__ import annotations

import importlib

import click

from sosw_celery.cli import Command
from sosw_celery.cli.runtime import command_app

__all__ = ["beat"]

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@click.command(
    cls=Command, examples=["sosw-celery -A proj beat", "sosw-celery -A proj beat -s /var/lib/proj/sosw-beat"]
)
@click.option(
    "--schedule",
    "-s",
    default="sosw-beat-schedule",
    show_default=True,
    help="File that remembers what was sent last, so that a restarted beat makes up for a missed tick.",
)
@click.option(
    "--loglevel",
    "-l",
    "log_level",
    type=click.Choice(LOG_LEVELS, case_sensitive=False),
    default="INFO",
    show_default=True,
    help="Of what beat tells.",
)
def beat(schedule: str, log_level: str) -> None:
    """Start scheduled jobs and the sweeps, and no other entry of the app.

    For a project whose own beat has another scheduler, as django-celery-beat. Else `celery beat` runs both.
    """
    app = command_app()
    scheduler = importlib.import_module("sosw_celery.system.beat").OnlyOurs
    app.Beat(scheduler=scheduler, schedule=schedule, loglevel=log_level).run()
