"""The values that layers hand to each other: a task, its attempt, a job's progress."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

__all__ = ["DEPTH", "Attempt", "Hint", "JobState", "JobSummary", "Task"]

#: Field of a sibling's row: how many came before it in its line.
DEPTH = "sibling_depth"

#: Bytes of a key of DynamoDB, and the largest number that an attempt or a depth can have.
LONGEST_KEY, LARGEST_NUMBER = 2048, 2 * 10**9


@dataclass(frozen=True)
class Attempt:
    """One start of a task, and so the holder of one slot: what fences every write about a running task.

    Parameters:
        number: 1 for the first start. Before the claim it is the number that the attempt will have.
    """

    labourer_id: str
    task_id: str
    number: int

    @property
    def holder(self) -> str:
        """The name under which the attempt holds its slot."""
        return f"{self.task_id}/{self.number}"

    @staticmethod
    def from_holder(labourer_id: str, holder: str) -> Attempt:
        """Return the attempt that holds a slot under this name."""
        task_id, _, number = holder.rpartition("/")
        return Attempt(labourer_id, task_id, int(number))


@dataclass(frozen=True)
class Task:
    """One row of the tasks table (or the retry or closed one), as far as the system itself reads it.

    `payload` is the JSON text that the worker gets as its event. Times are seconds since the epoch.
    """

    task_id: str
    labourer_id: str
    greenfield: Decimal
    created_at: Decimal
    payload: str = "{}"
    job_id: str = ""
    arn: str = ""
    attempts: int = 0
    failed_attempts: int = 0
    completed_at: Decimal | None = None
    closed_at: Decimal | None = None
    desired_launch_time: Decimal | None = None
    #: Everything else on the row: `stat_*`, `result_*`, `last_error`, fields of one's own.
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def next_attempt(self) -> Attempt:
        """The attempt that a claim of this row would make."""
        return Attempt(self.labourer_id, self.task_id, self.attempts + 1)

    @property
    def current_attempt(self) -> Attempt:
        """The attempt that the last claim of this row made."""
        return Attempt(self.labourer_id, self.task_id, self.attempts)


class JobState(str, enum.Enum):
    """How far a job is. Each state says who moves it on."""

    ACCEPTED = "accepted"  # stored by delay(); a Scheduler chunks it
    WRITING = "writing"  # chunked, parts known; Schedulers write the rows
    SCHEDULED = "scheduled"  # every task is in the table; workers close them, the scavenger counts
    COMPLETED = "completed"  # every task is closed, all completed
    COMPLETED_WITH_DEAD = "completed_with_dead"  # every task is closed, some dead
    REFUSED = "refused"  # not a valid job; nothing was scheduled; the same job_id may be submitted again

    @property
    def is_ended(self) -> bool:
        """Whether nothing becomes of the job any more."""
        return self in (JobState.COMPLETED, JobState.COMPLETED_WITH_DEAD, JobState.REFUSED)


@dataclass(frozen=True)
class JobSummary:
    """Where a job stands. `tasks` is None until it is chunked, which is not before `not_before`."""

    job_id: str
    labourer_id: str
    state: JobState
    tasks: int | None = None
    written: int = 0
    completed: int = 0
    dead: int = 0
    accepted_at: Decimal | None = None
    warnings: tuple[str, ...] = ()
    error: str = ""
    not_before: Decimal | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as JSON can hold it: what `scheduler.delay(job).get()` gives."""
        return {
            "job_id": self.job_id,
            "labourer_id": self.labourer_id,
            "state": self.state.value,
            "tasks": self.tasks,
            "written": self.written,
            "completed": self.completed,
            "dead": self.dead,
            "accepted_at": None if self.accepted_at is None else float(self.accepted_at),
            "not_before": None if self.not_before is None else float(self.not_before),
            "warnings": list(self.warnings),
            "error": self.error,
        }


@dataclass(frozen=True)
class Hint:
    """The message "this task may run", as it travels to a labourer's queue.

    Parameters:
        task: The row, where it is claimed already: its worker has no access to the table. Of the row only what a run
            needs travels with the hint.

    Source: replaces the Lambda invocation of sosw's orchestrator; the row itself stays in the table until the claim.
    """

    attempt: Attempt
    task: Task | None = None

    @property
    def celery_id(self) -> str:
        """The id of the Celery task that runs the attempt."""
        return self.attempt.holder.replace("/", ".")

    def as_message(self) -> dict[str, Any]:
        """Return the hint as the one argument of the labourer's Celery task."""
        a = self.attempt
        message: dict[str, Any] = {"task_id": a.task_id, "labourer_id": a.labourer_id, "attempt": a.number}
        if self.task is not None:
            task = self.task
            depth = int(task.extra.get(DEPTH, 0))
            message["claimed"] = {"payload": task.payload, "job_id": task.job_id, DEPTH: depth}
        return message

    @staticmethod
    def from_message(message: object) -> Hint | None:
        """Return the hint that a message carries, or None when it is none that can be read.

        Keys that it does not know are a newer version's, and passed over.
        """
        if not isinstance(message, Mapping) or not Hint.is_meant_by(message):
            return None
        task_id, labourer_id, number = message["task_id"], message["labourer_id"], message["attempt"]
        if not (_is_key(task_id) and _is_key(labourer_id) and _is_number(number)):
            return None
        attempt = Attempt(labourer_id, task_id, number)
        if "claimed" not in message:
            return Hint(attempt)
        return Hint(attempt, _claimed_task(attempt, message["claimed"])) if _is_claimed(message["claimed"]) else None

    @staticmethod
    def is_meant_by(message: object) -> bool:
        """Return whether a message was made to be a hint; one that is not, a user has sent."""
        return isinstance(message, Mapping) and message.keys() >= {"task_id", "labourer_id", "attempt"}


def _is_key(value: object) -> bool:
    """Whether a value can be a key of DynamoDB: a text that UTF-8 can say, of 1 to 2048 bytes."""
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_KEY:
        return False
    try:
        return len(value.encode()) <= LONGEST_KEY
    except UnicodeEncodeError:
        return False


def _is_number(value: object, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= LARGEST_NUMBER


def _is_claimed(claimed: object) -> bool:
    return (
        isinstance(claimed, Mapping)
        and isinstance(claimed.get("payload"), str)
        and isinstance(claimed.get("job_id", ""), str)
        and _is_number(claimed.get(DEPTH, 0), least=0)
    )


def _claimed_task(attempt: Attempt, claimed: Mapping[str, Any]) -> Task:
    """Return the row of an attempt as far as its hint tells of it; where it stands in the queue matters no more."""
    return Task(
        task_id=attempt.task_id,
        labourer_id=attempt.labourer_id,
        greenfield=Decimal(0),
        created_at=Decimal(0),
        payload=claimed["payload"],
        job_id=claimed.get("job_id", ""),
        attempts=attempt.number,
        extra={DEPTH: claimed[DEPTH]} if claimed.get(DEPTH) else {},
    )
