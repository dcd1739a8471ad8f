"""`sosw-celery up`: everything on this machine, until it is told to end."""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import click

from sosw_celery.cli import Command
from sosw_celery.cli.init import make_places
from sosw_celery.cli.processes import CeleryProcess, Processes, Role, beat, ending_words, essentials, labourer_node
from sosw_celery.cli.runtime import DATA_DIR, end_on_sigterm, load_services
from sosw_celery.local import LocalStack
from sosw_celery.settings import Settings

__all__ = ["Keeper", "roles_of", "up"]

#: Processes of the essentials worker: a Scheduler may take one for minutes, passes and sweeps want theirs meanwhile.
ESSENTIALS_CONCURRENCY = 3
#: Seconds before a process that ended is started again: the first time, and at most; doubled in between.
RESTART_S, RESTART_MAX_S = 1.0, 30.0
#: Seconds that a process has to run for its next end to count as the first one again.
STABLE_S = 60.0
#: Seconds that running tasks may take when all is ended.
WARM_S = 300.0
POLL_S = 0.2

COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green", "bright_magenta")


def roles_of(settings: Settings, schedule_file: Path, concurrency: int | None = None) -> list[Role]:
    """Return the processes of a whole system on one machine.

    Parameters:
        concurrency: Tasks that each labourer's worker runs at once; None: its slots, but no more than there are CPUs.
    """
    cpus = os.cpu_count() or 1
    workers = [
        labourer_node(name, concurrency or min(settings.labourer(name).slots, cpus)) for name in settings.labourers
    ]
    return [essentials(ESSENTIALS_CONCURRENCY), *workers, beat(schedule_file)]


@dataclass
class _Kept:
    """A role that is to be filled all the time."""

    role: Role
    process: CeleryProcess | None = None
    ends: int = 0
    start_at: float = 0.0


@dataclass
class Keeper:
    """Fills roles: starts their processes, and starts again what ended, after a pause that grows with each end.

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

    def fill(self, role: Role) -> None:
        """Have the role filled from now on."""
        self._kept.append(_Kept(role, start_at=self.clock()))
        self.look()

    def look(self) -> None:
        """Notice what has ended, and start what is due."""
        ended = self.processes.ended()
        now = self.clock()
        for kept in self._kept:
            if kept.process in ended:
                self._note_end(kept, now)
            if kept.process is None and kept.start_at <= now:
                kept.process = self.processes.start(kept.role)
                self.started(kept.process)

    def _note_end(self, kept: _Kept, now: float) -> None:
        assert kept.process is not None
        stable = now - kept.process.started_at > STABLE_S
        kept.ends = 1 if stable else kept.ends + 1
        pause_s = min(RESTART_S * 2 ** (kept.ends - 1), RESTART_MAX_S)
        kept.start_at = now + pause_s
        self.say(f"{kept.role.name} ended ({ending_words(kept.process.exit_status)}), again in {pause_s:g} s")
        kept.process = None


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
    envvar="SOSW_DATA",
    help="Where everything is kept. A later `up` goes on where this one stood, however it ended.",
)
@click.option(
    "--concurrency",
    "-c",
    type=click.IntRange(1),
    help="Tasks that each labourer's worker runs at once. Default: its slots, but no more than there are CPUs.",
)
def up(data: Path, concurrency: int | None) -> None:
    """Run everything on this machine: Redis, DynamoDB, the workers and beat.

    Ctrl-C ends all in good order: running tasks are finished first. A second Ctrl-C ends all at once.
    """
    end_on_sigterm()
    log = Log()
    with LocalStack(data) as stack:
        os.environ.update(stack.environment())
        services = load_services()
        for name, is_new in make_places(services).tables.items():
            if is_new:
                log.say(f"made table {name}")
        _tell_addresses(log, stack.environment(), data)
        roles = roles_of(services.settings, stack_file(data, "beat-schedule"), concurrency)
        with Processes(os.environ) as processes:
            _run(Keeper(processes, log.follow, log.say), roles, processes, log)


def stack_file(data: Path, name: str) -> Path:
    """Return the path of a file of ours beside the servers' data."""
    return data.resolve() / name


def _run(keeper: Keeper, roles: list[Role], processes: Processes, log: Log) -> None:
    """Keep all roles filled until an interrupt, then end all in good order, unless there is a second one."""
    try:
        for role in roles:
            keeper.fill(role)
        while True:
            keeper.look()
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        log.say("ending; running tasks are finished first, Ctrl-C again ends all at once")
        processes.finish(WARM_S)
        log.say("ended")


def _tell_addresses(log: Log, environment: Mapping[str, str], data: Path) -> None:
    log.say(f"data in {data}; commands in this directory find the servers by themselves, others need:")
    for name, value in environment.items():
        log.say(f"  export {name}={value}")


class Log:
    """Prints the lines of all processes, each with the name of its process in front."""

    def __init__(self) -> None:
        self._colours = itertools.cycle(COLOURS)
        self._colour_of: dict[str, str] = {}
        self._lock = threading.Lock()
        self._width = len("essentials")

    def say(self, text: str) -> None:
        """Print a line of our own."""
        self._print("up", text)

    def follow(self, process: CeleryProcess) -> None:
        """Print what the process prints, from now on until it ends, in the background."""
        output = process.output
        assert output is not None
        threading.Thread(target=self._copy, args=(process.role.name, output), daemon=True).start()

    def _copy(self, name: str, output: IO[bytes]) -> None:
        with output:
            for line in output:
                self._print(name, line.decode(errors="replace").rstrip())

    def _print(self, name: str, text: str) -> None:
        with self._lock:
            self._width = max(self._width, len(name))
            colour = self._colour_of.setdefault(name, next(self._colours) if name not in self._colour_of else "")
            try:
                click.echo(f"{click.style(name.ljust(self._width), fg=colour)} | {text}")
            except BrokenPipeError:  # nobody reads any more; the processes have to be read all the same
                sys.stdout = sys.stderr
