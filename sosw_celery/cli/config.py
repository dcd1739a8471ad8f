"""`sosw-celery config`: what a configuration says, and what is in effect."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sosw_celery import clock
from sosw_celery.cli import Command
from sosw_celery.cli.output import json_option, print_json
from sosw_celery.cli.runtime import command_app, config_module, load_services
from sosw_celery.config.masking import masked
from sosw_celery.core.schedules import instant
from sosw_celery.errors import ConfigError
from sosw_celery.services.scheduled_jobs import problem_of
from sosw_celery.sosw_compat.config_files import Report, Understood, UnreadableFile, check_file, check_section
from sosw_celery.system.exits import CommandFailed, ExitCode
from sosw_celery.text import excerpt

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["CommandGroup", "celery_settings", "config"]

#: What is said below a check of the configuration in effect.
NO_SECTION = "there is no section `sosw`: every setting of it has its default"
NOT_TRIED = "the code that it names (imports, workers) is not tried: a worker does that at its start"
#: Settings of Celery that are shown even if the configuration does not state them.
ALWAYS_SHOWN = ("broker_url", "result_backend", "imports", "timezone", "broker_transport_options")


class CommandGroup(Command, click.Group):
    """A command with commands of its own; its help ends with examples, as theirs does."""


@click.group(
    cls=CommandGroup,
    examples=["sosw-celery config check", "sosw-celery config check sosw_config.py", "sosw-celery config show"],
)
def config() -> None:
    """Check a configuration, one of sosw too, or show what is in effect."""


@config.command(
    cls=Command,
    examples=[
        "sosw-celery config check",
        "sosw-celery config check ../sosw_scheduler/app.py",
        "sosw-celery config check sosw_essential_config.json --json | jq .wrong",
    ],
)
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def check(file: Path | None, as_json: bool) -> None:
    """Say what of a configuration is understood, ignored, and wrong; exit code 1 if anything is wrong.

    FILE is a Python file (a celeryconfig.py; or, without being run, a file with DEFAULT_CONFIG or NAME_CONFIG dicts as
    under sosw), JSON or YAML. Without it the configuration in effect is checked. Secrets are masked.
    """
    report = _report_on(file)
    if as_json:
        print_json({"file": _name_of(file), "ok": not report.wrong, **_as_lists(report)})
    else:
        _print_for_people(_name_of(file), report)
        if file is None:
            is_stated = report.understood or report.ignored or report.wrong
            click.echo(f"\n{NOT_TRIED if is_stated else NO_SECTION}", err=True)
    if report.wrong:
        raise click.exceptions.Exit(ExitCode.FAILURE)


@config.command(cls=Command, examples=["sosw-celery config show", "sosw-celery config show --json | jq .sosw"])
@json_option
def show(as_json: bool) -> None:
    """Show the settings in effect: Celery's that the configuration or sosw-celery states, and the section `sosw`.

    Secrets are masked: passwords in addresses, and values whose name says that they are secret.
    """
    services = load_services()
    settings = masked(services.settings.model_dump(mode="python"))
    app = command_app()
    celery = masked(celery_settings(app))
    if as_json:
        print_json({"celery": celery, "sosw": settings})
        return
    click.echo("celery")
    _print_tree(celery)
    click.echo("sosw")
    _print_tree(settings)


def celery_settings(app: Celery) -> dict[str, Any]:
    """Return the settings of Celery that the configuration, or our defaults on our own app, state: as they count."""
    defaults = importlib.import_module("celery.app.defaults")
    apps = importlib.import_module("sosw_celery.celery")
    ours = importlib.import_module("sosw_celery.system.defaults").DEFAULTS if apps.is_ours(app) else {}
    known = {name for name, _ in defaults.flatten(defaults.NAMESPACES)}
    stated = known.intersection(app.conf.table())
    return {name: app.conf.get(name) for name in sorted({*ALWAYS_SHOWN, *ours, *stated})}


def _report_on(file: Path | None) -> Report:
    if file is None:
        return _with_scheduled_jobs(check_section(_active_section()))
    try:
        report = check_file(file)
        sys.path.insert(0, str(file.resolve().parent))  # for the periods and chunkers that it may name
        return _with_scheduled_jobs(report)
    except UnreadableFile as problem:
        raise CommandFailed(str(problem)) from problem


def _with_scheduled_jobs(report: Report) -> Report:
    """Return a report that says of each scheduled job as well whether it would be taken if it were due now."""
    if report.settings is None:
        return report
    now = instant(clock.now())
    found = (problem_of(report.settings, name, now) for name in report.settings.scheduled_jobs)
    wrong = tuple(problem for problem in found if problem is not None)

    def is_wrong(one: Understood) -> bool:
        return any(one.counts_as == problem.key or one.counts_as.startswith(f"{problem.key}.") for problem in wrong)

    return replace(report, wrong=wrong, understood=tuple(one for one in report.understood if not is_wrong(one)))


def _active_section() -> Any:
    """Return the `sosw` dict in effect, unchecked."""
    with contextlib.suppress(ConfigError):  # what is wrong is told by the report, all of it
        load_services()
    return importlib.import_module("sosw_celery.celery").section_of(command_app())


def _name_of(file: Path | None) -> str:
    if file is not None:
        return str(file)
    app = command_app()
    return config_module() if importlib.import_module("sosw_celery.celery").is_ours(app) else str(app.main)


def _as_lists(report: Report) -> dict[str, Any]:
    return {
        "understood": [
            {"key": one.key, "value": _shown(one.value, one.key), "counts_as": one.counts_as}
            for one in report.understood
        ],
        "ignored": [
            {"key": one.key, "value": _shown(one.value, one.key), "reason": one.reason} for one in report.ignored
        ],
        "wrong": [
            {"key": one.key, "value": _shown(one.value, one.key), "expected": one.expected} for one in report.wrong
        ],
    }


def _print_for_people(name: str, report: Report) -> None:
    counts = (len(report.understood), len(report.ignored), len(report.wrong))
    click.echo("{}: {} understood, {} ignored, {} wrong".format(name, *counts))
    _print_group(
        "understood",
        [
            f"{one.key} = {excerpt(_shown(one.value, one.key))}" + (f"   -> {one.counts_as}" if one.is_moved else "")
            for one in report.understood
        ],
    )
    _print_group("ignored", [f"{one.key}: {one.reason}" for one in report.ignored])
    _print_group("wrong", [str(ConfigError(one.key, _shown(one.value, one.key), one.expected)) for one in report.wrong])


def _print_group(title: str, lines: list[str]) -> None:
    if lines:
        click.echo("\n".join(["", title, *(f"  {line}" for line in lines)]))


def _print_tree(data: Mapping[Any, Any], indent: int = 2) -> None:
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            click.echo(f"{' ' * indent}{key}")
            _print_tree(value, indent + 2)
        else:
            click.echo(f"{' ' * indent}{key} = {value!r}")


def _shown(value: Any, key: str) -> Any:
    return masked(value, key.rpartition(".")[2])
