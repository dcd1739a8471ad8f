"""`sosw-celery health`: whether worker nodes do their work, by exit code; for Docker and Kubernetes.

Reads what the nodes of this machine noted of themselves, and neither the configuration nor a server, so it costs a
twentieth of a second; with `--all` it asks Redis for all nodes.
"""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sosw_celery.cli import Command
from sosw_celery.cli.output import json_option, print_json, print_table
from sosw_celery.cli.runtime import data_option, services_at
from sosw_celery.core.node_liveness import Pulse, Verdict, judge
from sosw_celery.stores.files.heartbeat_files import DIRECTORY, PulseFiles, is_there
from sosw_celery.system.exits import CommandFailed, ExitCode

if TYPE_CHECKING:
    from sosw_celery.stores.redis.node_registry import NodeNote

__all__ = ["full_name", "health"]

#: Seconds of silence after which a node counts as dead.
LIMIT_S = 60.0


@click.command(
    cls=Command,
    examples=["sosw-celery health", "sosw-celery health -n resize@%h", "sosw-celery health --all"],
)
@click.option("-n", "--node", metavar="NAME", help="One node, named as for `celery worker -n`: resize@%h.")
@click.option(
    "--limit",
    "limit_s",
    type=click.FloatRange(min=1),
    default=LIMIT_S,
    show_default=True,
    help="Seconds of silence, or of idling while messages wait, after which a node counts as dead.",
)
@click.option("--all", "everywhere", is_flag=True, help="The nodes of the whole cluster, as each sees itself.")
@data_option
@json_option
def health(node: str | None, limit_s: float, everywhere: bool, data: Path, as_json: bool) -> None:
    """Say whether worker nodes on this machine do their work; exit code 1 if one does not.

    Not whether a process is there: whether its event loop turns, whether messages wait while it has free processes,
    and whether it renews its leases. A broker or a Redis that does not answer is told, and is no failure: a restart of
    the worker would not help. With --all a node is shown for ten minutes after its last sign of life; one that missed
    three of them has a problem.
    """
    if everywhere:
        _show_cluster(data, as_json)
        return
    pulses = _pulses(node)
    now = time.monotonic()
    verdicts = [(pulse, _verdict(pulse, now, limit_s)) for pulse in pulses]
    if as_json:
        print_json([_as_dict(pulse, verdict, now) for pulse, verdict in verdicts])
    else:
        for pulse, verdict in verdicts:
            _print(pulse, verdict)
    if not all(verdict.is_alive for _, verdict in verdicts):
        raise click.exceptions.Exit(ExitCode.FAILURE)


def _pulses(node: str | None) -> list[Pulse]:
    """Return the pulses that were asked for, at least one.

    Raises:
        CommandFailed: There is none.
    """
    files = PulseFiles()
    if node is None:
        found = list(files.all())
        name = "of a worker node"
    else:
        name = f"of {full_name(node)}"
        one = files.get(full_name(node))
        found = [] if one is None else [one]
    if not found:
        raise CommandFailed(f"no sign of life {name} in {files.path}; is {DIRECTORY} the same as for the worker?")
    return found


def full_name(node: str) -> str:
    """Return the name that Celery makes of what follows `-n`."""
    host = socket.gethostname()
    plain_host, _, domain = host.partition(".")
    full = node if "@" in node else f"celery@{node}"
    for letter, value in (("%h", host), ("%d", domain), ("%n", plain_host)):
        full = full.replace(letter, value)
    return full


def _verdict(pulse: Pulse, now: float, limit_s: float) -> Verdict:
    """Return what is to be thought of a node; one whose process is gone is dead at once."""
    if not is_there(pulse.pid):
        return Verdict((f"its process {pulse.pid} is gone",))
    return judge(pulse, now, limit_s)


def _print(pulse: Pulse, verdict: Verdict) -> None:
    if verdict.is_alive:
        what = f"{pulse.busy} of {pulse.capacity} busy, {pulse.accepted} taken up so far"
        click.echo("; ".join([f"{pulse.node}: alive, {what}", *verdict.remarks]))
    else:
        click.echo("; ".join([f"{pulse.node}: not alive: {verdict.problems[0]}", *verdict.problems[1:]]), err=True)


def _as_dict(pulse: Pulse, verdict: Verdict, now: float) -> dict[str, Any]:
    return {
        "node": pulse.node,
        "alive": verdict.is_alive,
        "problems": verdict.problems,
        "remarks": verdict.remarks,
        "queues": pulse.queues,
        "capacity": pulse.capacity,
        "busy": pulse.busy,
        "accepted": pulse.accepted,
        "age_s": round(now - pulse.written_at, 3),
    }


def _show_cluster(data: Path, as_json: bool) -> None:
    notes = services_at(data).nodes.all()
    if as_json:
        print_json([{"node": one.node, "age_s": one.age_s, **one.note, "problems": one.problems} for one in notes])
    else:
        print_table(["node", "queues", "busy", "taken up", "seen", "problems"], [_row(one) for one in notes])
    if any(one.problems for one in notes):
        raise click.exceptions.Exit(ExitCode.FAILURE)


def _row(one: NodeNote) -> tuple[Any, ...]:
    note = one.note
    return (
        one.node,
        ", ".join(note.get("queues", ())),
        f"{note.get('busy', '?')}/{note.get('capacity', '?')}",
        note.get("accepted", "?"),
        f"{one.age_s:.0f} s ago",
        "; ".join(one.problems) or ("stopping" if note.get("is_stopping") else "-"),
    )
