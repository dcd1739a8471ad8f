"""`sosw-celery up`: everything on this machine, until it is told to end."""

from __future__ import annotations

import importlib
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import click

from sosw_celery.cli import Command
from sosw_celery.cli.init import make_places
from sosw_celery.cli.processes import CeleryProcess, Processes, Role, beat, ending_words, essentials, labourer_node
from sosw_celery.cli.runtime import command_app, command_app_name, config_module, end_on_sigterm, load_services
from sosw_celery.config.settings import Settings
from sosw_celery.local import LocalStack
from sosw_celery.local.configuration import left_out
from sosw_celery.local.stack_place import DATA_DIR, DATA_VARIABLE
from sosw_celery.system.exits import CommandFailed, ExitCode

__all__ = ["Keeper", "Log", "roles_of", "up"]

#: Processes of the essentials worker: a Scheduler may take one for minutes, passes and sweeps want theirs meanwhile.
ESSENTIALS_CONCURRENCY = 3
#: Seconds before a process that ended is started again: the first time, and at most; doubled in between.
RESTART_S, RESTART_MAX_S = 1.0, 30.0
#: Seconds that a process has to run for its next end to count as the first one again.
STABLE_S = 60.0
#: Seconds that running tasks may take when all is ended.
WARM_S = 300.0
POLL_S = 0.2
#: Seconds that the last words of an ended process may take.
PRINTED_S = 2.0

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
#: What the system's own processes log unless told otherwise: at INFO they tell of every sweep.
OWN_LOG_LEVEL = "WARNING"

COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green", "bright_magenta")


def roles_of(
    settings: Settings,
    schedule_file: Path,
    concurrency: int | None = None,
    log_level: str | None = None,
    app: str = Role.app,
) -> list[tuple[Role, str]]:
    """Return the processes of a whole system on one machine, and what each of them logs.

    Parameters:
        concurrency: Tasks that each labourer's worker runs at once; None: its slots, but no more than there are CPUs.
        log_level: Of all; None: labourers' workers tell of every task, the others of what is wrong.
        app: The Celery app of all, as `celery -A` takes it.
    """
    cpus = os.cpu_count() or 1
    own = log_level or OWN_LOG_LEVEL
    workers = [
        (labourer_node(name, concurrency or min(settings.labourer(name).slots, cpus)), log_level or "INFO")
        for name in settings.labourers
    ]
    roles = [(essentials(ESSENTIALS_CONCURRENCY), own), *workers, (beat(schedule_file), own)]
    return [(replace(role, app=app), level) for role, level in roles]


class FirstStartFailed(CommandFailed):
    """The first process of a role gave up soon after its start; it has said why."""

    def __init__(self, process: CeleryProcess, status: int) -> None:
        code = ExitCode.CONFIG if status == ExitCode.CONFIG else ExitCode.FAILURE
        super().__init__(f"{process.role.name} did not start ({ending_words(status)}); it says why above", code)
        self.process = process


@dataclass
class _Kept:
    """A role that is to be filled all the time."""

    role: Role
    log_level: str
    process: CeleryProcess | None = None
    ends: int = 0
    start_at: float = 0.0


@dataclass
class Keeper:
    """Fills roles: starts their processes, and starts again what ended, after a pause that grows with each end.

    A process that gives up soon after its role's first start is not started again: it would give up again.

    Parameters:
        started: Called with each process that was started.
        say: Called with a line about what happened to a role.
        clock: Monotonic seconds.
    """

    processes: Processes
    started: Callable[[CeleryProcess], None]
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    _kept: list[_Kept] = field(default_factory=list)

    def fill(self, role: Role, log_level: str) -> None:
        """Have the role filled from now on."""
        self._kept.append(_Kept(role, log_level, start_at=self.clock()))
        self.look()

    def look(self) -> None:
        """Notice what has ended, and start what is due."""
        ended = self.processes.ended()
        now = self.clock()
        for kept in self._kept:
            if kept.process in ended:
                self._note_end(kept, now)
            if kept.process is None and kept.start_at <= now:
                kept.process = self.processes.start(kept.role, kept.log_level)
                self.started(kept.process)
                self.say(f"started {kept.role.name}, process {kept.process.pid}")

    def _note_end(self, kept: _Kept, now: float) -> None:
        assert kept.process is not None
        stable = now - kept.process.started_at > STABLE_S
        status = kept.process.exit_status or 0
        if not kept.ends and not stable and status > 0:
            raise FirstStartFailed(kept.process, status)
        kept.ends = 1 if stable else kept.ends + 1
        pause_s = min(RESTART_S * 2 ** (kept.ends - 1), RESTART_MAX_S)
        kept.start_at = now + pause_s
        self.say(f"{kept.role.name} has ended ({ending_words(kept.process.exit_status)}), again in {pause_s:g} s")
        kept.process = None


class Log:
    """Prints the lines of all processes, each with the name of its process in front."""

    def __init__(self, width: int = len("essentials")) -> None:
        self._colours = itertools.cycle(COLOURS)
        self._colour_of: dict[str, str] = {}
        self._lock = threading.Lock()
        self._width = width
        self._has_reader = True
        self._copying: dict[str, threading.Thread] = {}

    def say(self, text: str) -> None:
        """Print a line of our own."""
        self._print("up", text)

    def follow(self, process: CeleryProcess) -> None:
        """Print what the process prints, from now on until it ends, in the background."""
        output = process.output
        assert output is not None
        copying = threading.Thread(target=self._copy, args=(process.role.name, output), daemon=True)
        copying.start()
        self._copying[process.role.name] = copying

    def await_end_of(self, role: Role) -> None:
        """Return once all that the ended process of a role has printed is printed here, or soon after."""
        self._copying[role.name].join(PRINTED_S)

    def _copy(self, name: str, output: IO[bytes]) -> None:
        with output:
            for line in output:
                self._print(name, line.decode(errors="replace").rstrip())

    def _print(self, name: str, text: str) -> None:
        with self._lock:
            if name not in self._colour_of:
                self._colour_of[name] = next(self._colours)
            label = click.style(name.ljust(self._width), fg=self._colour_of[name])
            if self._has_reader:
                try:
                    click.echo(f"{label} | {text}")
                except BrokenPipeError:  # the processes' pipes have to be emptied all the same
                    self._has_reader = False


@click.command(
    cls=Command,
    examples=[
        "sosw-celery up",
        "sosw-celery up --data /var/tmp/my-stack --concurrency 2",
        "sosw-celery schedule job.json --wait     # in another terminal, in the same directory",
    ],
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=DATA_DIR,
    show_default=True,
    envvar=DATA_VARIABLE,
    help="Where everything is kept. A later `up` goes on where this one stood, however it ended.",
)
@click.option(
    "--concurrency",
    "-c",
    type=click.IntRange(1),
    help="Tasks that each labourer's worker runs at once. Default: its slots, but no more than there are CPUs.",
)
@click.option(
    "--loglevel",
    "-l",
    "log_level",
    type=click.Choice(LOG_LEVELS, case_sensitive=False),
    help="Of all processes. Default: INFO for labourers' workers, WARNING for the others.",
)
def up(data: Path, concurrency: int | None, log_level: str | None) -> None:
    """Run everything on this machine: Redis, DynamoDB, the workers and beat.

    Ctrl-C ends all in good order: running tasks are finished first. A second Ctrl-C ends all at once.
    """
    end_on_sigterm()
    app_name = command_app_name()  # before anything is started
    with LocalStack(data) as stack:
        addresses = stack.environment()
        os.environ.update(addresses)
        services = load_services()
        log = Log(max(map(len, ["essentials", *services.settings.labourers])))
        for name, is_new in make_places(services).tables.items():
            if is_new:
                log.say(f"made table {name}")
        log.say(f"data in {data}; programs in this directory use these servers, others by:")
        for name, value in addresses.items():
            log.say(f"  export {name}={value}")
        for key in left_out(_stated_section()):
            log.say(f"left out: sosw.{key}; nobody beyond this machine is told of dead tasks")
        schedule_file = data.resolve() / "beat-schedule"
        roles = roles_of(services.settings, schedule_file, concurrency, log_level, app_name)
        with Processes(os.environ) as processes:
            _keep(roles, processes, log)


def _stated_section() -> Mapping[str, Any]:
    """Return the section `sosw` as it was before the stack took the place of its servers."""
    apps = importlib.import_module("sosw_celery.celery")
    app = command_app()
    found = getattr(sys.modules.get(config_module()), "sosw", {}) if apps.is_ours(app) else apps.stated_section(app)
    return found if isinstance(found, Mapping) else {}


def _keep(roles: list[tuple[Role, str]], processes: Processes, log: Log) -> None:
    """Keep all roles filled until an interrupt, then end all in good order, unless there is a second one.

    Raises:
        FirstStartFailed: One cannot be filled; what it said is printed.
    """
    keeper = Keeper(processes, log.follow, log.say)
    try:
        for role, log_level in roles:
            keeper.fill(role, log_level)
        while True:
            keeper.look()
            time.sleep(POLL_S)
    except FirstStartFailed as failed:
        log.await_end_of(failed.process.role)
        log.say(f"ending, since {failed.process.role.name} cannot start: running tasks are finished first")
        processes.finish(WARM_S)
        raise
    except KeyboardInterrupt:
        log.say("ending: running tasks are finished first, Ctrl-C again ends all at once")
        processes.finish(WARM_S)
        log.say("ended")
