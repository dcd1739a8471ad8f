"""Where things stand: each labourer, each job, each task. Nothing is changed by looking.

It counts, and others draw: whoever shows these numbers asks here, so that all show the same.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice

from sosw_celery.clock import Clock
from sosw_celery.config.settings import Settings
from sosw_celery.core.health import allowed
from sosw_celery.core.schedules import instant
from sosw_celery.core.tasks import greenfield
from sosw_celery.core.tasks.durations import eta_s
from sosw_celery.core.tasks.history import Event
from sosw_celery.core.tasks.model import JobSummary, Task
from sosw_celery.errors import ItemCorrupt, JobNotFound, StoreError
from sosw_celery.names import QUEUES
from sosw_celery.services.durations import DurationLog
from sosw_celery.services.ecology import Ecology
from sosw_celery.services.scheduled_jobs import LastTick, last_tick
from sosw_celery.services.strays import stray_jobs
from sosw_celery.stores.dynamodb.history_table import HistoryTable
from sosw_celery.stores.dynamodb.job_table import JobTable
from sosw_celery.stores.dynamodb.task_table import Found, TaskTable
from sosw_celery.stores.redis.node_registry import NodeNote, NodeRegistry
from sosw_celery.stores.redis.slots import Readiness, Slots

__all__ = [
    "COUNT_LIMIT",
    "LabourerStatus",
    "NotServed",
    "Overview",
    "SystemStatus",
    "TaskState",
    "TaskStatus",
    "state_of",
]

#: Rows of a queue that are counted at most: reading all of a long one costs money and time.
COUNT_LIMIT = 10_000


@dataclass(frozen=True)
class LabourerStatus:
    """What a labourer is at.

    Parameters:
        queued: Tasks in its queue, those handed out included; `COUNT_LIMIT` stands for that many or more.
        running: Slots whose attempt runs.
        handed_out: Slots whose hint waits for a worker.
        cap: Slots in all: the number in force, or the configured one while slots are missing.
        waiting: Tasks that wait for a retry; at most `COUNT_LIMIT`.
        slots: `ready`; else no slot is granted: `settling` for seconds after Redis came back empty, `missing` until the
            first dispatch.
        health: Eco status 0 to 4 of the worst metric; None without metrics, or while one is not known.
        limit: Slots that its health leaves it.
        average_duration_s, max_duration_s: What its last tasks took; None when none was closed yet.
        eta_s: Seconds until nothing is queued, waiting or running if it goes on like this; None when that cannot be
            told: it is held back, no task was closed yet, or there is more than is counted.
        nodes, processes: Worker nodes that take messages from its queue, and the processes that they have for it and
            for whatever else they serve.
    """

    labourer_id: str
    queued: int
    running: int
    handed_out: int
    cap: int
    waiting: int
    slots: Readiness
    health: int | None
    limit: int
    average_duration_s: float | None
    max_duration_s: float | None
    eta_s: float | None
    nodes: int
    processes: int


@dataclass(frozen=True)
class NotServed:
    """What nobody does; false when there is nothing of the kind.

    Parameters:
        own: The system's own queues that no node takes messages from.
        labourers: Labourers of whose queues the same is true.
        not_configured: Labourers that are not configured; their tasks wait until they are.
    """

    own: Sequence[str] = ()
    labourers: Sequence[str] = ()
    not_configured: Sequence[str] = ()

    def __bool__(self) -> bool:
        return bool(self.own or self.labourers or self.not_configured)


@dataclass(frozen=True)
class SystemStatus:
    """What all are at.

    Parameters:
        labourers: Those that are configured.
        jobs: Those that have not ended, as many as were asked for.
        not_served: Of the system's own work, of these labourers', and of those that open jobs are for.
        ticks: What became of the last tick of each scheduled job.
    """

    labourers: Sequence[LabourerStatus]
    jobs: Sequence[JobSummary]
    not_served: NotServed
    ticks: Sequence[LastTick]


class TaskState(str, enum.Enum):
    """Where a task stands, in the words of its life."""

    QUEUED = "queued"  # no attempt has claimed it; it may be handed out
    RUNNING = "running"  # claimed by an attempt that nobody has closed
    COMPLETED = "completed, not archived yet"  # the next sweep archives it
    WAITING = "waiting for retry"  # an attempt failed; the next one has its time
    CLOSED_COMPLETED = "closed, completed"  # final
    CLOSED_DEAD = "closed, dead"  # final


@dataclass(frozen=True)
class TaskStatus:
    """What is known of a task.

    Parameters:
        row: As its table has it.
        table: That table: `tasks`, `retry` or `closed`.
        claimed_at: When it was claimed last, seconds since the epoch; None while its greenfield is a place in a queue.
        history: Its events, the first one first; None where none is kept, or it cannot be read.
        history_problem: Why it cannot be read; empty otherwise.
    """

    row: Task
    table: str
    state: TaskState
    claimed_at: Decimal | None = None
    history: Sequence[Event] | None = None
    history_problem: str = ""


class Overview:
    """Looks at the stores. Each method raises `StoreUnavailable` when one that it needs does not answer.

    Parameters:
        meta_table: Gives the table of the history; called where one is kept.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        task_table: TaskTable,
        job_table: JobTable,
        slots: Slots,
        nodes: NodeRegistry,
        ecology: Ecology,
        durations: DurationLog,
        meta_table: Callable[[], HistoryTable],
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._task_table = task_table
        self._job_table = job_table
        self._slots = slots
        self._nodes = nodes
        self._ecology = ecology
        self._durations = durations
        self._meta_table = meta_table
        self._clock = clock

    def system(self, jobs: int) -> SystemStatus:
        """Return what all are at, by counts that stop at `COUNT_LIMIT`.

        Parameters:
            jobs: Open jobs to look at, at most.
        """
        nodes = self._nodes.all()
        configured = self._settings.labourers
        return SystemStatus(
            labourers=[self._labourer(labourer_id, nodes) for labourer_id in configured],
            jobs=self.open_jobs(jobs),
            not_served=self._not_served([*configured, *stray_jobs(self._job_table, configured)], nodes),
            ticks=self._ticks(),
        )

    def not_served(self, labourer_ids: Iterable[str]) -> NotServed:
        """Return what nobody does: of the system's own work, and of that of these labourers."""
        return self._not_served(labourer_ids, self._nodes.all())

    def open_jobs(self, limit: int) -> list[JobSummary]:
        """Return where the jobs stand that have not ended, at most `limit`."""
        found = []
        for job_id in islice(self._job_table.unfinished(limit), limit):
            try:
                found.append(self.job(job_id))
            except (JobNotFound, ItemCorrupt):  # the index was behind, or somebody changed the job by hand
                continue
        return found

    def job(self, job_id: str) -> JobSummary:
        """Return where a job stands.

        Raises:
            JobNotFound: There is none of this id.
            ItemCorrupt: Its item cannot be read.
        """
        return self._job_table.get(job_id)

    def task(self, task_id: str) -> TaskStatus:
        """Return what is known of a task, wherever it is. A history that cannot be read hides nothing else of it.

        Raises:
            TaskNotFound: No table holds it.
            ItemCorrupt: Its row cannot be read.
        """
        found = self._task_table.find(task_id, list(self._settings.labourers))
        history, problem = self._history_of(task_id)
        now = self._clock()
        place = found.task.greenfield
        was_claimed = place > greenfield.queue_end(now)
        return TaskStatus(
            row=found.task,
            table=found.where,
            state=state_of(found, now),
            claimed_at=greenfield.claimed_at(place, self._task_table.delta) if was_claimed else None,
            history=history,
            history_problem=problem,
        )

    def _labourer(self, labourer_id: str, nodes: Iterable[NodeNote]) -> LabourerStatus:
        serving = [node for node in nodes if labourer_id in node.serves]
        share = self._ecology.share_of(labourer_id)
        usage = self._slots.look(labourer_id)
        labourer = self._durations.measured(self._settings.labourer(labourer_id))
        queued = self._task_table.count_queued(labourer_id, now=self._clock(), at_most=COUNT_LIMIT)
        waiting = self._task_table.count_waiting(labourer_id, at_most=COUNT_LIMIT)
        cap = usage.cap or labourer.slots  # nothing is in force while the slots are missing
        limit = allowed(cap, share)
        eco_status = self._ecology.health_of(labourer_id).status if labourer.health_metrics else None
        return LabourerStatus(
            labourer_id=labourer_id,
            queued=min(COUNT_LIMIT, queued),
            running=usage.running,
            handed_out=usage.pending,
            cap=cap,
            waiting=min(COUNT_LIMIT, waiting),
            slots=usage.ready,
            health=None if eco_status is None else int(eco_status),
            limit=limit,
            average_duration_s=labourer.average_duration_s,
            max_duration_s=labourer.max_duration_s,
            eta_s=eta_s(
                queued=queued + waiting,
                running=usage.running,
                slots=limit,
                average_s=labourer.average_duration_s,
                rate=labourer.rate,
            )
            if max(queued, waiting) < COUNT_LIMIT
            else None,
            nodes=len(serving),
            processes=sum(node.note.get("capacity", 0) for node in serving),
        )

    def _not_served(self, labourer_ids: Iterable[str], nodes: Iterable[NodeNote]) -> NotServed:
        served = {queue for node in nodes for queue in node.serves}
        configured = self._settings.labourers
        asked_for = list(dict.fromkeys(labourer_ids))
        return NotServed(
            own=[queue for queue in dict.fromkeys(QUEUES.values()) if queue not in served],
            labourers=[one for one in asked_for if one in configured and one not in served],
            not_configured=[one for one in asked_for if one not in configured],
        )

    def _ticks(self) -> list[LastTick]:
        now = instant(self._clock())
        settings = self._settings
        return [last_tick(settings, name, now, self._job_table.get) for name in settings.scheduled_jobs]

    def _history_of(self, task_id: str) -> tuple[list[Event] | None, str]:
        """Return the events of a task, and why they cannot be read."""
        config = self._settings.meta_handler_config
        if config is None or not config.write_meta_to_ddb:
            return None, ""
        try:
            return self._meta_table().history(task_id), ""
        except StoreError as problem:
            return None, str(problem)


def state_of(found: Found, now: Decimal) -> TaskState:
    """Return where a task stands: its table and its greenfield tell it together."""
    if found.where == "closed":
        return TaskState.CLOSED_DEAD if found.dead else TaskState.CLOSED_COMPLETED
    if found.where == "retry":
        return TaskState.WAITING
    if found.task.completed_at is not None:
        return TaskState.COMPLETED
    return TaskState.QUEUED if found.task.greenfield <= greenfield.queue_end(now) else TaskState.RUNNING
