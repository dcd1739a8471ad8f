"""What is known of a run when it is over: what was asked for, what processes wrote down, what stands in the tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Evidence", "FaultRecord", "Freeze", "Job", "JobItem", "Look", "Rate", "Row", "Run"]


@dataclass(frozen=True)
class Job:
    """A job that was accepted, with the payloads that chunking gives for it.

    Parameters:
        submits: How often it was submitted.
    """

    job_id: str
    labourer_id: str
    payloads: Sequence[Mapping[str, Any]]
    submits: int = 1


@dataclass(frozen=True)
class JobItem:
    """A job as the table of jobs has it."""

    job_id: str
    state: str
    tasks: int | None
    completed: int
    dead: int


@dataclass(frozen=True)
class Row:
    """A task as a table has it.

    Parameters:
        where: `tasks`, `retry` or `closed`.
        run: The name of the run that left its result on the row.
        claimed: It stands in `tasks` and is not queued.
    """

    task_id: str
    job_id: str
    labourer_id: str
    payload: Mapping[str, Any]
    where: str
    attempts: int
    failed_attempts: int
    dead: bool = False
    run: str = ""
    claimed: bool = False


@dataclass(frozen=True)
class Run:
    """One run of a body, monotonic seconds.

    Parameters:
        name: No other run has it.
        number: Of the attempt.
        group: The main process of its node.
        alive_at: When the body showed for the last time that it runs.
        how: `done` or `raised`; empty when its process died in it.
    """

    name: str
    task_id: str
    number: int
    group: int
    start: float
    alive_at: float
    how: str = "done"


@dataclass(frozen=True)
class Freeze:
    """A node that stood still, monotonic seconds."""

    group: int
    at: float
    woken: float


@dataclass(frozen=True)
class Look:
    """How the slots of a labourer stood at an instant.

    Parameters:
        at: When the answer was there, monotonic seconds.
        pending, running: Leases.
        standby: Tasks that come next and have no slot.
        lapses: Leases that have run out so far.
    """

    labourer_id: str
    at: float
    pending: int
    running: int
    standby: int
    lapses: int


@dataclass(frozen=True)
class FaultRecord:
    """A fault that was injected, monotonic seconds.

    Parameters:
        at: When it began.
        over: When what it took away was back, as far as somebody outside had to bring it back: recovery counts from
            here. The instant of the kill for a process that was killed.
        loses_messages: The broker forgot what it had.
        lag_s: How much later than usual the answers of Redis came meanwhile.
        spares: A labourer that was to notice nothing of it, and until when its slots had to be in full use; its retries
            and lost tasks were to be seen to until the end.
        happened: False when there was no occasion.
    """

    kind: str
    at: float
    over: float
    loses_messages: bool = False
    happened: bool = True
    note: str = ""
    lag_s: float = 0.0
    spares: tuple[str, float] | None = None


@dataclass(frozen=True)
class Rate:
    """How often bodies of a labourer may start: in t seconds `burst` + `per_s` x t times."""

    burst: int
    per_s: float


@dataclass(frozen=True)
class Evidence:
    """All that the checker decides on.

    Parameters:
        caps: `max_simultaneous_invocations` of each labourer.
        lease_s: As configured.
        steady: Labourers whose slots are to be in use all the time.
        rates, limits_s: `rate_limit` and `duration` of the labourers that are judged by them.
        looks: Taken until the first fault.
        gave_up: The run was ended from outside because nothing went on.
    """

    caps: Mapping[str, int]
    max_attempts: int
    lease_s: float
    jobs: Sequence[Job]
    items: Mapping[str, JobItem]
    rows: Sequence[Row]
    runs: Sequence[Run]
    looks: Sequence[Look] = ()
    freezes: Sequence[Freeze] = ()
    faults: Sequence[FaultRecord] = ()
    gave_up: bool = False
    labourer_of: Mapping[str, str] = field(default_factory=dict)
    steady: frozenset[str] = frozenset()
    rates: Mapping[str, Rate] = field(default_factory=dict)
    limits_s: Mapping[str, float] = field(default_factory=dict)

    @property
    def calm_until(self) -> float:
        """When the first fault began; infinity if none did."""
        return min([fault.at for fault in self.faults if fault.happened], default=math.inf)
