"""Sweeps up behind workers: archives what is completed, finds what is lost or expired, brings retries back.

Every sweep is idempotent; each answers to a way in which a process can die. One look at all labourers, in Redis alone,
tells which have something to do, and each of those gets a sweep of its own: one at a time, of bounded length, and
whatever is left is asked for again. So neither a labourer whose tables are slow nor one with very much to do holds up
the others.
"""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from collections.abc import Set as AbstractSet
from decimal import Decimal

from sosw_celery.config.labourers import Labourer
from sosw_celery.config.settings import Settings
from sosw_celery.core.exact import EXACT
from sosw_celery.core.isolation import each_by_itself
from sosw_celery.core.tasks.greenfield import claimed_at
from sosw_celery.core.tasks.model import Task
from sosw_celery.errors import StoreUnavailable
from sosw_celery.services.attempts import Attempts
from sosw_celery.services.ports import Clock, Messenger
from sosw_celery.stores.dynamodb.job_table import RUNNING, SCHEDULING, JobRecord, JobTable
from sosw_celery.stores.dynamodb.task_table import TaskTable
from sosw_celery.stores.redis.idle_flag import IdleFlag
from sosw_celery.stores.redis.slots import Slots, SweepView
from sosw_celery.stores.redis.turns import Turn, Turns

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
#: Retries that are brought back together.
RETRY_BATCH = 200
#: Seconds after which a sweep begins nothing more: what is left is asked for again, behind the other labourers.
WORK_S = 5.0
#: Seconds in which a labourer is not swept whose tables could not be reached: others wait for the same process.
REST_S = 5.0
#: Seconds until a sweep that was asked for and has not begun is asked for again: its message was lost, or waits.
ASK_AGAIN_S = 20.0
#: Name of the turn to sweep the jobs; labourers have other names.
JOBS = "#jobs"
#: Jobs of each stage that one sweep looks at; the next one goes on behind them.
JOBS_PER_SWEEP = 1000
#: Seconds between two warnings of one labourer that is not configured and has open jobs.
WARN_AGAIN_S = 600.0


class Scavenger:
    """Moves on what no worker will.

    Parameters:
        turns: Whose turn it is to sweep.
        idle_mark: Says that there is no unfinished job.
        resume_job: Has a Scheduler go on with a job if its own died; called with its item and the time.
        begin_due: Has Schedulers begin with jobs that waited for a time which has come.
        clock, own_clock: The one that all share, and that of this node; by default the same.
    """

    def __init__(
        self,
        settings: Settings,
        task_table: TaskTable,
        job_table: JobTable,
        slots: Slots,
        attempts: Attempts,
        *,
        turns: Turns,
        idle_mark: IdleFlag,
        messenger: Messenger,
        resume_job: Callable[[JobRecord, Decimal], object],
        begin_due: Callable[[], object],
        clock: Clock,
        own_clock: Clock | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._task_table = task_table
        self._job_table = job_table
        self._slots = slots
        self._attempts = attempts
        self._turns = turns
        self._idle_mark = idle_mark
        self._messenger = messenger
        self._resume_job = resume_job
        self._begin_due = begin_due
        self._clock = clock
        self._own_clock = own_clock or clock
        self._monotonic = monotonic
        #: Labourer that is not configured -> when it was warned of.
        self._warned: dict[str, float] = {}

    def look(self, *, thorough: bool = False) -> None:
        """Ask for a sweep of each labourer that has something to do, as far as Redis knows; reads no table.

        Parameters:
            thorough: Ask for a thorough sweep, even if nothing is known to have happened since the last one; where
                nothing at all is known to go on, once in five minutes.
        """
        views = self._slots.begin_sweeps(self._settings.labourers)
        now = self._clock()
        everything = {name for name, view in views.items() if self._knows_too_little(view, thorough)}
        due = [name for name, view in views.items() if name in everything or self._is_due(name, view, now)]
        self._ask_for(due, everything)

    def sweep(self, labourer_id: str, *, thorough: bool = False) -> None:
        """Bring due retries back, find lost and expired tasks, and archive; nothing while another process is at it.

        Parameters:
            thorough: Read all of the tables, the queue too, whatever is known to have happened since the last sweep.

        Raises:
            StoreUnavailable: The tables or Redis could not be reached; the labourer is left alone for some seconds.
        """
        turn = self._turns.begin(labourer_id, self._settings.lease_s)
        if turn is None:
            return
        rest_s = 0.0
        try:
            is_left = self._sweep(turn, thorough)
        except StoreUnavailable:
            rest_s = REST_S
            raise
        finally:
            self._turns.end(turn, rest_s)
        if is_left:
            self._ask_for([labourer_id])

    def sweep_jobs(self) -> None:
        """Finish jobs whose tasks are all closed, and have unfinished ones gone on with.

        Each sweep goes on where the last one stopped. Once there is no unfinished job, it looks again when a Scheduler
        has begun one, or after several times.
        """
        is_idle, begun = self._idle_mark.look()
        turn = None if is_idle else self._turns.begin(JOBS, self._settings.lease_s)
        if turn is None:
            return
        try:
            now = self._clock()
            running, scheduling = self._unfinished(RUNNING), self._unfinished(SCHEDULING)
            due_in_s = self._due_in_s(now)
            if not running and not scheduling and due_in_s > 0:
                self._idle_mark.set(begun, min(IDLE_JOB_SWEEPS * self._settings.sweep_jobs_s, due_in_s))
                return
            with each_by_itself("sweep of jobs") as steps:
                if due_in_s <= 0:
                    with steps.step("jobs that waited"):
                        self._begin_due()
                with steps.step("jobs that are written"):
                    self._look_after(self._finish(running, turn, now))
                with steps.step("jobs that are being written"):
                    self._resume(scheduling, turn, now)
        finally:
            self._turns.end(turn)

    def _ask_for(self, labourer_ids: Sequence[str], thoroughly: Collection[str] = ()) -> None:
        """Have labourers swept, unless they are about to be, or are being swept."""
        self._turns.ask_each(
            labourer_ids,
            ASK_AGAIN_S,
            lambda name: self._messenger.request_sweep(name, thorough=name in thoroughly),
        )

    def _unfinished(self, stage: str) -> list[str]:
        """Return jobs behind those that the last sweep looked at."""
        name = f"{JOBS} {stage}"
        place = self._turns.place(name)
        found, behind = self._job_table.unfinished_from(place, JOBS_PER_SWEEP, stage=stage)
        if place and not found:  # there was no more: from the beginning
            found, behind = self._job_table.unfinished_from("", JOBS_PER_SWEEP, stage=stage)
        if place or behind:
            self._turns.keep_place(name, behind)
        return found

    def _due_in_s(self, now: Decimal) -> float:
        """Return the seconds until the first of the waiting jobs may start; infinity when none waits."""
        due_at = self._job_table.next_due()
        return math.inf if due_at is None else float(EXACT.subtract(due_at, now))

    def _finish(self, job_ids: Sequence[str], turn: Turn, now: Decimal) -> Counter[str]:
        """End the jobs whose tasks are all closed; return how many others each labourer has."""
        others: Counter[str] = Counter()
        with each_by_itself("end of jobs") as steps:
            for record in self._records(job_ids, turn):
                with steps.step(f"job {record.job_id}"):
                    if not (record.all_closed and self._job_table.finish_if_done(record.job_id, now)):
                        others[record.labourer_id] += 1
        return others

    def _resume(self, job_ids: Sequence[str], turn: Turn, now: Decimal) -> None:
        with each_by_itself("resuming jobs") as steps:
            for record in self._records(job_ids, turn):
                with steps.step(f"job {record.job_id}"):
                    self._resume_job(record, now)

    def _records(self, job_ids: Sequence[str], turn: Turn) -> Iterator[JobRecord]:
        for record in self._job_table.unfinished_records(job_ids):
            self._keep(turn)
            yield record

    def _look_after(self, open_jobs: Counter[str]) -> None:
        """See to labourers that have open tasks and run none.

        They wait for a retry, as a rule. But rows may stand in its queue that nobody knows of: their Scheduler died, or
        Redis was away, before they were announced, or the index showed them too late. And if no retry is known, they
        may be anywhere.
        """
        known = open_jobs.keys() & self._settings.labourers.keys()
        for labourer_id in sorted(open_jobs.keys() - known):
            self._warn_of(labourer_id, open_jobs[labourer_id])
        unexplained = []
        for labourer_id, view in self._slots.begin_sweeps(sorted(known)).items():
            if view.pending or view.running:
                continue
            if view.next_retry_at is None:
                unexplained.append(labourer_id)
            else:
                self._messenger.request_dispatch(labourer_id)
        self._ask_for(unexplained, unexplained)

    def _warn_of(self, labourer_id: str, jobs: int) -> None:
        """Say that tasks wait for a labourer that is not configured, but not with every sweep."""
        since = self._monotonic() - self._warned.get(labourer_id, -WARN_AGAIN_S)
        if since < WARN_AGAIN_S:
            return
        self._warned[labourer_id] = self._monotonic()
        logger.warning(
            "labourer %s is not configured, %d unfinished jobs of it were seen: their tasks wait until it is",
            labourer_id,
            jobs,
        )

    def _sweep(self, turn: Turn, thorough: bool) -> bool:
        """Make one sweep of the labourer whose turn it is; return whether something is left that was to be done."""
        labourer_id, until = turn.name, self._monotonic() + WORK_S
        view, now = self._slots.begin_sweep(labourer_id), self._clock()
        everything = thorough or self._knows_too_little(view, thorough)
        is_left = False
        with each_by_itself(f"sweep of {labourer_id}") as steps:
            # Who lost a lease may have been unable to tell of a retry as well.
            if everything or view.lapses or self._has_due_retry(view, now):
                with steps.step("retries"):
                    is_left |= self._bring_back(turn, now, view, until)
            for_lost = everything or bool(view.lapses) or self._is_overdue(view, labourer_id)
            if for_lost or view.closes:
                with steps.step("claimed tasks"):
                    is_left |= self._sweep_claimed(turn, now, view, until, for_lost=for_lost)
            if everything:
                with steps.step("queue"):
                    self._slots.reset_cursor(labourer_id)
                    self._messenger.request_dispatch(labourer_id)
        return is_left

    def _is_due(self, labourer_id: str, view: SweepView, now: Decimal) -> bool:
        """Whether a sweep of the labourer would find something to do."""
        return bool(view.closes or view.lapses or self._has_due_retry(view, now) or self._is_overdue(view, labourer_id))

    def _knows_too_little(self, view: SweepView, thorough: bool) -> bool:
        """Whether everything has to be looked at: Redis is new, or came back empty, or it is time to look again."""
        return view.seconds_since_full_sweep is None or (thorough and not self._is_idle(view))

    @staticmethod
    def _has_due_retry(view: SweepView, now: Decimal) -> bool:
        return view.next_retry_at is not None and view.next_retry_at <= now

    def _keep(self, turn: Turn) -> None:
        """Give a sign of life. A turn that has run out under us is somebody else's now, and nothing is wrong with that:
        whatever two sweeps do at once is done once."""
        self._turns.keep(turn, self._settings.lease_s)

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

    def _sweep_claimed(self, turn: Turn, now: Decimal, view: SweepView, until: float, *, for_lost: bool) -> bool:
        """End lost and expired tasks and archive completed ones, until it is late; return whether some are left.

        Parameters:
            for_lost: There may be lost ones: read on to the end for them, however late it is.
        """
        labourer = self._settings.labourer(turn.name)
        rows = self._task_table.running(labourer.id, now=now)
        is_left = is_late = False
        with each_by_itself("claimed tasks", ends_with=(StoreUnavailable,)) as steps:
            while batch := list(itertools.islice(rows, SWEEP_BATCH)):
                self._keep(turn)
                completed = [task for task in batch if task.completed_at is not None]
                # At once, while what the index showed is fresh: archiving takes longer than many a task.
                with steps.step("lost tasks"):
                    self._end_lost(labourer, [task for task in batch if task.completed_at is None], now)
                if is_late:
                    is_left |= bool(completed)
                else:
                    with steps.step("completed tasks"):
                        self._archive(completed)
                is_late = self._monotonic() > until
                if is_late and not for_lost:
                    break
            is_whole = not batch
            lapses_seen = view.lapses_seen if is_whole else None
            self._slots.end_sweep(labourer.id, view.closes_seen, full=is_whole, lapses_seen=lapses_seen)
            if is_left or not is_whole:
                self._slots.note_close(labourer.id)  # else nobody would know, should we die now
        return is_left or not is_whole

    def _archive(self, completed: Sequence[Task]) -> None:
        if not completed:
            return
        now = self._clock()
        with each_by_itself("archive", ends_with=(StoreUnavailable,)) as steps:
            with steps.step("rows"):
                self._task_table.archive(completed, now=now)
            for job_id in {task.job_id for task in completed if task.job_id}:
                with steps.step(f"end of job {job_id}"):
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
        alive = view.running | view.pending if labourer.through_assistant else view.running
        with each_by_itself("lost tasks", ends_with=(StoreUnavailable,)) as steps:
            for task in running:
                with steps.step(f"task {task.task_id}"):
                    self._end_if_lost(labourer, task, alive, now)

    def _end_if_lost(self, labourer: Labourer, task: Task, alive: AbstractSet[str], now: Decimal) -> None:
        attempt = task.current_attempt
        if attempt.holder not in alive:
            self._attempts.fail(attempt, f"Lost: the lease of attempt {attempt.number} ended")
            return
        longest = labourer.ready_s + labourer.duration_s + labourer.cooldown_s
        delta = Decimal(self._settings.task_config.greenfield_invocation_delta)
        # By both clocks: each may have jumped.
        age_s = float(EXACT.subtract(min(now, self._own_clock()), claimed_at(task.greenfield, delta)))
        if age_s > longest + CLOCKS_DIFFER_S and not labourer.through_assistant:
            self._attempts.fail(attempt, f"Expired: attempt {attempt.number} was not closed within {longest:g} s")

    def _bring_back(self, turn: Turn, now: Decimal, view: SweepView, until: float) -> bool:
        """Put due retries back into the queue, until it is late; return whether some are left."""
        labourer_id = turn.name
        while True:
            due, next_due = self._task_table.due(labourer_id, now=now, limit=RETRY_BATCH)
            back = 0
            if due:
                self._keep(turn)
                try:
                    back = self._task_table.requeue(due, now=now)
                finally:  # also if some could not be put back
                    self._announce_head(labourer_id)
            is_left = len(due) == RETRY_BATCH and back > 0
            if not is_left or self._monotonic() > until:
                self._slots.set_next_retry(labourer_id, next_due, retries_seen=view.retries_seen)
                return is_left

    def _announce_head(self, labourer_id: str) -> None:
        """Tell that rows came to the head of the queue: the next pass reads from there."""
        self._slots.reset_cursor(labourer_id)
        if self._slots.announce_work(labourer_id):
            self._messenger.request_dispatch(labourer_id)
