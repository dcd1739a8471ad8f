"""The command line: `sosw-celery COMMAND`, and the same commands as `celery -A sosw_celery sosw COMMAND`.

This module is imported by every `celery` command, so it imports nothing but click. The module of a command is imported
when the command is run or its help is asked for; the configuration is read when a command needs it, so that a broken
one spoils nobody's `--help`.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import click

from sosw_celery.cli.exits import APP, DEBUG, one_exit
from sosw_celery.system.exits import ExitCode
from sosw_celery.text import did_you_mean

__all__ = ["main", "sosw"]

#: Command -> its module, where it stands under its own name, and its line in the list of commands.
COMMANDS = {
    "demo": ("sosw_celery.cli.demo.command", "Run nested jobs on this machine, kill a worker, check the outcome."),
    "up": ("sosw_celery.cli.up", "Run everything on this machine: servers, workers, beat."),
    "init": ("sosw_celery.cli.init", "Make the tables and the place for queue files."),
    "preview": ("sosw_celery.cli.preview", "Show what a job would become. Needs no server."),
    "schedule": ("sosw_celery.cli.schedule", "Submit a job."),
    "status": ("sosw_celery.cli.status", "Show what each labourer and each open job is at."),
    "job": ("sosw_celery.cli.job", "Show how far a job is."),
    "task": ("sosw_celery.cli.task", "Show a task, wherever it is."),
    "beat": ("sosw_celery.cli.beat", "Start scheduled jobs and sweeps, beside a beat of your own."),
    "health": ("sosw_celery.cli.health", "Say whether worker nodes do their work, by exit code; for containers."),
    "config": ("sosw_celery.cli.config", "Check a configuration, one of sosw too, or show what is in effect."),
    "tables": ("sosw_celery.cli.tables", "Print the tables as CloudFormation or Terraform."),
    "iam": ("sosw_celery.cli.iam", "Print least-privilege IAM policies for each role."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module when that command is wanted, and ends every command at one exit."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which one would try them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, its module imported; None when there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what the exit codes mean."""
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code.value), code.meaning) for code in ExitCode])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments name; a mistyped one gets a suggestion."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"no command {args[0]!r}{did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; see `exits.one_exit` for how it ends."""
        with one_exit(ctx):
            return super().invoke(ctx)


class Command(click.Command):
    """A command whose help ends with examples, one a line, and that takes `--debug` as the group does."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.params.append(debug_option())

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples as they can be typed."""
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"  {example}\n")


def debug_option() -> click.Option:
    """Return the option `--debug`, which may stand before and after the command's name."""
    return click.Option(
        ["--debug"],
        is_flag=True,
        envvar="SOSW_DEBUG",
        expose_value=False,
        callback=_remember_debug,
        help="Show the traceback of an error. Also: SOSW_DEBUG=1.",
    )


def app_option() -> click.Option:
    """Return the option that says which Celery app a command is for; read as `runtime.command_app` says."""
    return click.Option(
        ["-A", "--app"],
        metavar="APP",
        expose_value=False,
        callback=_remember_app,
        help="Celery app that has the system on it, as `celery -A` takes it. Default: sosw_celery.",
    )


def _remember_app(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    if value:
        ctx.meta[APP] = value


def _remember_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.meta[DEBUG] = bool(value or ctx.meta.get(DEBUG))


@click.group(
    cls=LazyGroup, params=[app_option(), debug_option()], context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="sosw-celery", message="%(package)s %(version)s")
def sosw() -> None:
    """One business job becomes very many Celery tasks: none lost, never more at once than allowed."""


def main() -> None:
    """Run the command that the command line names, and exit."""
    sosw(prog_name="sosw-celery")
