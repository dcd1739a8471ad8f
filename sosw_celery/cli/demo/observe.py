"""Where the jobs of the demo stand, by a handful of cheap questions to Redis and DynamoDB."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from sosw_celery import clock
from sosw_celery.core.tasks.model import Task

if TYPE_CHECKING:
    from sosw_celery.wiring.container import Services

__all__ = ["Observer", "Sight"]

#: Seconds over which the rate is measured.
RATE_WINDOW_S = 4.0
#: Tasks per second below which no end is foretold: it would only show how the rate begins or stalls.
SLOWEST_FORETOLD = 1.0
#: Tasks that wait for a retry, looked at in one call.
WAITING_LIMIT = 1000
#: Later than any retry is due.
ALL_DUE = Decimal(10**12)


@dataclass(frozen=True)
class Sight:
    """One labourer's job at one moment.

    Parameters:
        tasks: None until the job is chunked.
        queued: Tasks in the queue, those handed out included.
        running: Slots whose attempt runs, or ran until its node died and its lease has not ended yet.
        handed_out: Slots whose hint waits for a worker.
        done: Completed tasks, archived or not.
        failed: Attempts that failed, as far as seen.
        retried: Attempts after the first one of a task, as far as seen.
        rate: Tasks done per second, lately.
        eta_s: Seconds to the end at this rate; None when hardly anything moves.
    """

    labourer_id: str
    tasks: int | None
    queued: int
    running: int
    handed_out: int
    cap: int
    waiting: int
    done: int
    dead: int
    failed: int
    retried: int
    rate: float
    eta_s: float | None
    has_ended: bool

    @property
    def share(self) -> float:
        """How much of the job is done, 0 to 1."""
        return (self.done + self.dead) / self.tasks if self.tasks else 0.0


class Observer:
    """Looks at the jobs again and again, and remembers what one look alone cannot tell.

    Parameters:
        jobs: Labourer -> the id of its one job.
        monotonic: Seconds, for rates.
    """

    def __init__(
        self, services: Services, jobs: Mapping[str, str], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._services = services
        self._jobs = dict(jobs)
        self._monotonic = monotonic
        self._done_at: dict[str, deque[tuple[float, int]]] = {name: deque() for name in jobs}
        #: The most that any look has counted. A look misses what is archived while it reads; no task becomes undone.
        self._done: dict[str, int] = dict.fromkeys(jobs, 0)
        #: Task -> attempts and failed attempts as seen last; only of tasks that needed more than one.
        self._troubles: dict[str, dict[str, tuple[int, int]]] = {name: {} for name in jobs}
        #: Labourer -> the most slots in use that any look has seen.
        self.most_slots_seen: dict[str, int] = dict.fromkeys(jobs, 0)

    def look(self) -> list[Sight]:
        """Return where each job stands now."""
        return [self._look_at(labourer_id, job_id) for labourer_id, job_id in self._jobs.items()]

    def _look_at(self, labourer_id: str, job_id: str) -> Sight:
        table, now = self._services.task_table, clock.now()
        usage = self._services.slots.look(labourer_id)
        seen = self.most_slots_seen
        seen[labourer_id] = max(seen[labourer_id], usage.running + usage.pending)
        # Read against the way of a task, from its end to its beginning, so that none is counted twice.
        job = self._services.job_table.get(job_id)
        claimed = list(table.running(labourer_id, now=now))
        waiting = table.due(labourer_id, now=ALL_DUE, limit=WAITING_LIMIT)[0]
        queued = table.count_queued(labourer_id, now=now)
        self._note_troubles(labourer_id, [*claimed, *waiting])
        done = max(self._done[labourer_id], job.completed + sum(task.completed_at is not None for task in claimed))
        self._done[labourer_id] = done
        rate = self._rate(labourer_id, done)
        left = None if job.tasks is None else job.tasks - done - job.dead
        troubles = self._troubles[labourer_id].values()
        return Sight(
            labourer_id=labourer_id,
            tasks=job.tasks,
            queued=queued,
            running=usage.running,
            handed_out=usage.pending,
            cap=self._services.settings.labourer(labourer_id).slots,
            waiting=len(waiting),
            done=done,
            dead=job.dead,
            failed=sum(failed for _, failed in troubles),
            retried=sum(max(0, attempts - 1) for attempts, _ in troubles),
            rate=rate,
            eta_s=left / rate if rate >= SLOWEST_FORETOLD and left is not None else None,
            has_ended=job.state.is_ended,
        )

    def _note_troubles(self, labourer_id: str, tasks: Iterable[Task]) -> None:
        known = self._troubles[labourer_id]
        for task in tasks:
            if task.attempts > 1 or task.failed_attempts:
                known[task.task_id] = (task.attempts, task.failed_attempts)

    def _rate(self, labourer_id: str, done: int) -> float:
        now, history = self._monotonic(), self._done_at[labourer_id]
        history.append((now, done))
        while len(history) > 2 and history[1][0] <= now - RATE_WINDOW_S:
            history.popleft()
        since, before = history[0]
        return max(0.0, (done - before) / (now - since)) if now > since else 0.0
