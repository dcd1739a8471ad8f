"""Sweeps up behind workers: archives what is completed, finds what is lost or expired, brings retries back.

Every sweep is idempotent and may run beside others; each answers to a way in which a process can die.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from decimal import Decimal

from sosw_celery.clock import Clock
from sosw_celery.core.greenfield import claimed_at
from sosw_celery.core.model import Task
from sosw_celery.exact import EXACT
from sosw_celery.services.attempts import Attempts
from sosw_celery.settings import Labourer, Settings
from sosw_celery.stores.idle_mark import IdleMark
from sosw_celery.stores.job_table import RUNNING, SCHEDULING, JobTable
from sosw_celery.stores.slots import Slots, SweepView
from sosw_celery.stores.task_table import TaskTable

__all__ = ["Scavenger"]

logger = logging.getLogger(__name__)

#: Claimed tasks that are looked at together.
SWEEP_BATCH = 500
#: Seconds by which the clocks of two nodes may differ: a claim is dated by the node that made it. An attempt that is
#: ended too early would run on beside the next one; one too late has its lease still, and so its slot.
CLOCKS_DIFFER_S = 600
#: Seconds between two looks at a labourer that does nothing, as far as Redis knows. A bit less than five minutes, since
#: such looks are asked for once a minute.
IDLE_LOOK_S = 290
#: Of so many looks for forgotten jobs one is made while there is no unfinished job.
IDLE_JOB_SWEEPS = 6
#: Retries that one sweep brings back; more wait for the next one.
RETRY_BATCH = 200


class Scavenger:
    """Moves on what no worker will.

    Parameters:
        idle_mark: Says that there is no unfinished job.
        dispatch: Sends a dispatch for a labourer.
        resume_jobs: Has a Scheduler go on with jobs whose own died; called with the time.
    """

    def __init__(
        self,
        settings: Settings,
        task_table: TaskTable,
        job_table: JobTable,
        slots: Slots,
        attempts: Attempts,
        *,
        idle_mark: IdleMark,
        dispatch: Callable[[str], None],
        resume_jobs: Callable[[Decimal], object],
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._task_table = task_table
        self._job_table = job_table
        self._slots = slots
        self._attempts = attempts
        self._idle_mark = idle_mark
        self._dispatch = dispatch
        self._resume_jobs = resume_jobs
        self._clock = clock

    def sweep(self, labourer_id: str, *, thorough: bool = False) -> None:
        """Archive, find lost and expired tasks, and bring due retries back.

        Parameters:
            thorough: Read all of the tables, the queue too, even if nothing is known to have happened since the last
                sweep; where nothing at all is known to go on, once in five minutes.
        """
        view = self._slots.begin_sweep(labourer_id)
        now = self._clock()
        knows_nothing = view.seconds_since_full_sweep is None  # Redis is new, or came back empty
        if knows_nothing or (thorough and not self._is_idle(view)):
            self._look_at_all(labourer_id, now, view)
            return
        if view.closes or view.lapses or self._is_overdue(view, labourer_id):
            self._sweep_claimed(labourer_id, now, view)
        # Who lost a lease may have been unable to tell of a retry as well.
        if view.lapses or (view.next_retry_at is not None and view.next_retry_at <= now):
            self._bring_back(labourer_id, now, view)

    def sweep_jobs(self) -> None:
        """Finish jobs whose tasks are all closed, and have unfinished ones gone on with.

        Once there is none, it looks again when a Scheduler has begun one, or after several times.
        """
        is_idle, begun = self._idle_mark.look()
        if is_idle:
            return
        now = self._clock()
        with_open_tasks = set()
        running = self._job_table.unfinished(stages=(RUNNING,))
        if not running and not self._job_table.unfinished(1, stages=(SCHEDULING,)):
            self._idle_mark.set(begun, IDLE_JOB_SWEEPS * self._settings.sweep_jobs_s)
            return
        for job_id in running:
            record = self._job_table.unfinished_record(job_id)
            if record is None:
                continue
            if record.all_closed:
                self._job_table.finish_if_done(job_id, now)
            else:
                with_open_tasks.add(record.labourer_id)
        for labourer_id in sorted(with_open_tasks & self._settings.labourers.keys()):
            self._wake(labourer_id)
        self._resume_jobs(now)

    def _wake(self, labourer_id: str) -> None:
        """Look after a labourer that has open tasks and runs none.

        They wait for a retry, as a rule. But rows may stand in its queue that nobody knows of: their Scheduler died, or
        Redis was away, before they were announced, or the index showed them too late. And if no retry is known, they
        may be anywhere.
        """
        view = self._slots.begin_sweep(labourer_id)
        if view.pending or view.running:
            return
        if view.next_retry_at is None:
            self._look_at_all(labourer_id, self._clock(), view)
        else:
            self._dispatch(labourer_id)

    def _look_at_all(self, labourer_id: str, now: Decimal, view: SweepView) -> None:
        """Read what is claimed and what waits for a retry, and have the queue read from its head."""
        self._sweep_claimed(labourer_id, now, view)
        self._bring_back(labourer_id, now, view)
        self._slots.reset_cursor(labourer_id)
        self._dispatch(labourer_id)

    @staticmethod
    def _is_idle(view: SweepView) -> bool:
        """Whether nothing is known to go on, and was looked for not long ago."""
        busy = view.running or view.pending or view.next_retry_at is not None
        since = view.seconds_since_full_sweep
        return not busy and since is not None and since < IDLE_LOOK_S

    def _is_overdue(self, view: SweepView, labourer_id: str) -> bool:
        """Whether tasks run and nobody has looked for expired ones for as long as the first could have expired."""
        labourer = self._settings.labourer(labourer_id)
        since = view.seconds_since_full_sweep or 0.0
        return bool(view.running) and since > min(60.0, labourer.duration_s + labourer.cooldown_s)

    def _sweep_claimed(self, labourer_id: str, now: Decimal, view: SweepView) -> None:
        labourer = self._settings.labourer(labourer_id)
        rows = self._task_table.running(labourer_id, now=now)
        while batch := list(itertools.islice(rows, SWEEP_BATCH)):
            # At once, while what the index showed is fresh: archiving takes longer than many a task.
            self._end_lost(labourer, [task for task in batch if task.completed_at is None], now)
            self._archive([task for task in batch if task.completed_at is not None])
        self._slots.end_sweep(labourer_id, view.closes_seen, full=True, lapses_seen=view.lapses_seen)

    def _archive(self, completed: Sequence[Task]) -> None:
        if not completed:
            return
        now = self._clock()
        self._task_table.archive(completed, now=now)
        for job_id in {task.job_id for task in completed if task.job_id}:
            self._job_table.finish_if_done(job_id, now)

    def _end_lost(self, labourer: Labourer, running: Sequence[Task], now: Decimal) -> None:
        """Fail attempts whose lease is gone (their node died), or that outlived `duration` and `cooldown`.

        The latter keep their leases and were to be ended by their time limit long ago: so there is time to be sure.

        Leases are read after the rows: an attempt has its lease before its claim and until after its close, so one that
        runs has it now. The fence of the write refuses what the index showed too late.

        Tasks that were claimed with their hints have a pending lease until a worker begins, who knows when: for them
        the lease alone decides, which ends when nobody runs them.
        """
        if not running:
            return
        view = self._slots.begin_sweep(labourer.id)
        if view.ready != "ready":  # Redis came back empty: nodes have yet to report what they run
            return
        delta = Decimal(self._settings.task_config.greenfield_invocation_delta)
        alive = view.running | view.pending if labourer.through_assistant else view.running
        longest = labourer.ready_s + labourer.duration_s + labourer.cooldown_s
        for task in running:
            attempt = task.current_attempt
            if attempt.holder not in alive:
                self._attempts.fail(attempt, f"Lost: the lease of attempt {attempt.number} ended")
                continue
            age_s = float(EXACT.subtract(now, claimed_at(task.greenfield, delta)))
            if age_s > longest + CLOCKS_DIFFER_S and not labourer.through_assistant:
                self._attempts.fail(attempt, f"Expired: attempt {attempt.number} was not closed within {longest:g} s")

    def _bring_back(self, labourer_id: str, now: Decimal, view: SweepView) -> None:
        due, next_due = self._task_table.due(labourer_id, now=now, limit=RETRY_BATCH)
        if due and self._task_table.requeue(due, now=now):
            # The head of the queue has moved: the next pass reads from there.
            self._slots.reset_cursor(labourer_id)
            if self._slots.announce_work(labourer_id):
                self._dispatch(labourer_id)
        self._slots.set_next_retry(labourer_id, next_due, retries_seen=view.retries_seen)
