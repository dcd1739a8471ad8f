"""Hands queued tasks out: as many hints to a labourer's queue as it has free slots, and no more.

The tasks that come next are put on standby beside the slots, so that whoever frees a slot gives it to the first of them
and publishes its hint. A pass over the queue is needed only when standby has run low.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal

from sosw_celery.config.settings import Settings
from sosw_celery.core.isolation import each_by_itself
from sosw_celery.core.tasks.model import Attempt, Hint, Task
from sosw_celery.errors import StoreError
from sosw_celery.services.hint_publisher import HintPublisher
from sosw_celery.services.ports import Clock, Messenger
from sosw_celery.stores.dynamodb.task_table import TaskTable
from sosw_celery.stores.redis.slots import Granted, Limits, PassView, Slots, Usage
from sosw_celery.stores.redis.turns import Turns

__all__ = ["Orchestrator"]

logger = logging.getLogger(__name__)

#: Tasks handed out in one turn of a pass: bounds the query, the Lua call and the batch of messages.
TASKS_PER_TURN = 200
#: Tasks on standby for each slot, at least. A pass is asked for when half of them are left: until it is through, every
#: slot may change hands once.
STANDBY_PER_SLOT = 2
STANDBY_MIN = 8
#: One turn of a pass fills standby; and what stands by is read again by every pass from the head.
STANDBY_MAX = TASKS_PER_TURN
#: Seconds that half a standby should last, at least and at most. A pass costs about as much as ten tasks, so it should
#: serve dozens where they are short; and where they are long, a retry at the head of the queue waits for all of them.
HALF_LASTS_S = 5.0, 30.0

#: Seconds until the safety net asks again for a pass that has not come to its end: its message was lost, or waits, or
#: the table did not answer, which occupies a process for as long as botocore tries.
ASK_AGAIN_S = 10.0


@dataclass
class _Progress:
    """What a pass knows of its labourer so far.

    Parameters:
        start: Where to read on; None is the head.
        free: Slots that somebody may have now.
        standby, target: How many stand by, and should.
        handed_out: At most so many rows of the queue are handed out already and not claimed yet.
        ties: All that was read last stands at one place: more may, and be handed out.
    """

    work_seq: int
    start: Decimal | None
    free: int
    standby: int
    target: int
    handed_out: int
    hints: int
    ties: bool = False

    @staticmethod
    def of(view: PassView, target: int) -> _Progress:
        """Return where a pass stands at its beginning."""
        return _Progress(
            work_seq=view.work_seq,
            start=view.cursor,
            free=view.free,
            standby=view.standby,
            target=target,
            handed_out=view.pending + view.standby,
            hints=len(view.granted),
        )

    @property
    def room(self) -> int:
        """Rows that find a slot or a place on standby."""
        return self.free + max(0, self.target - self.standby)

    @property
    def read_again(self) -> int:
        """Rows that are handed out and may be read again: from the head, or at one place with the cursor."""
        return self.handed_out if self.start is None or self.ties else 0

    @property
    def wants_rows(self) -> bool:
        """Whether the queue is worth a read: one per half a standby is enough where nothing else calls for it."""
        return self.free > 0 or self.standby * 2 <= self.target or self.start is None

    def add(self, granted: Granted) -> None:
        """Count what a turn has handed out."""
        self.handed_out += len(granted.holders) + max(0, granted.standby - self.standby)
        self.hints += len(granted.holders)
        self.free = granted.free
        self.standby = granted.standby


class Orchestrator:
    """Fills free slots from the queues of the tasks table. Any number of them may work at once.

    Parameters:
        turns: Which passes the safety net has asked for.
        is_first_start: Notes that a labourer gets slots, and tells whether it never had any.
        share_of: Gives the share of its cap that a labourer's health leaves it, 0 to 1; by default all of it.
        started_at: Gives the time at which this process was started with its configuration, by Redis' clock.
    """

    def __init__(
        self,
        settings: Settings,
        task_table: TaskTable,
        slots: Slots,
        *,
        hints: HintPublisher,
        messenger: Messenger,
        clock: Clock,
        turns: Turns,
        is_first_start: Callable[[str], bool],
        share_of: Callable[[str], float] = lambda _: 1.0,
        started_at: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._settings = settings
        self._turns = turns
        self._share_of = share_of
        self._started_at = started_at
        self._task_table = task_table
        self._slots = slots
        self._hints = hints
        self._messenger = messenger
        self._clock = clock
        self._is_first_start = is_first_start

    def dispatch(self, labourer_id: str, *, from_head: bool = False) -> int:
        """Hand out the labourer's queued tasks until its slots and its standby are full or its queue is dry.

        Returns how many hints were published. Puts the configured cap and rate in force, unless those of a process that
        started later are.

        Parameters:
            from_head: Read from the head of the queue, not from where the last pass stopped: the safety net's way.
        """
        hints = self._pass_over(labourer_id, from_head=from_head)
        if from_head:  # where the table did not answer, the safety net lets it rest
            self._turns.take_back(_pass_of(labourer_id))
        return hints

    def _pass_over(self, labourer_id: str, *, from_head: bool) -> int:
        share = self._share_of(labourer_id)
        view = self._begin(labourer_id, share, from_head)
        if view.ready != "ready":
            return 0
        self._send(labourer_id, view.granted)
        target = standby_target(view.limit, view)
        progress = _Progress.of(view, target)
        try:
            if progress.wants_rows:
                self._read(labourer_id, share, progress)
        finally:
            if view.is_low:
                self._slots.stop_filling(labourer_id, target)
        return progress.hints

    def tend(self, labourer_ids: Collection[str]) -> None:
        """Have passes made for labourers that need one, in case a message was lost; keep the slots of waiting hints.

        One look at all of them; each of the passes is a message of its own, so that one whose table is slow holds up no
        other. They read from the head of the queue, for rows whose hint was lost. A rate that has somebody stand by
        beside a free slot relies on them: a hint is handed out `hint_lease_s` before its token comes due.
        """
        wanted: dict[str, str] = {}
        shares: dict[str, float] = {}
        with each_by_itself("safety net") as steps:
            for labourer_id in labourer_ids:
                with steps.step(f"labourer {labourer_id}"):
                    shares[labourer_id] = self._share_of(labourer_id)
            for labourer_id, usage in self._slots.look_at(shares).items():
                with steps.step(f"labourer {labourer_id}"):
                    self._keep_hints(labourer_id, usage)
                    if usage.ready != "ready" or not self._all_is_well(usage):
                        wanted[_pass_of(labourer_id)] = labourer_id
            with steps.step("passes"):
                self._turns.ask_each(
                    list(wanted),
                    ASK_AGAIN_S,
                    lambda name: self._messenger.request_dispatch(wanted[name], from_head=True),
                )

    def _keep_hints(self, labourer_id: str, usage: Usage) -> None:
        if usage.pending and self._messenger.queue_depth(labourer_id) >= usage.pending:
            self._slots.renew_pending(labourer_id, lease_s=self._settings.hint_lease_s)

    def _all_is_well(self, usage: Usage) -> bool:
        """Return whether a pass would find nothing to do: no slot idles beside a task, and standby has not run low."""
        if usage.limits_at < self._started_at():
            return False  # what this process is configured with is not in force yet
        if usage.free:
            return usage.dry and not usage.standby
        return usage.dry or usage.standby * 2 > standby_target(usage.limit)

    def _begin(self, labourer_id: str, share: float, from_head: bool) -> PassView:
        view = self._begin_pass(labourer_id, share, from_head)
        if view.ready == "missing":
            self._rebuild(labourer_id)
            view = self._begin_pass(labourer_id, share, from_head)
        return view

    def _begin_pass(self, labourer_id: str, share: float, from_head: bool) -> PassView:
        return self._slots.begin_pass(
            labourer_id,
            limits=self._limits(labourer_id),
            lease_s=self._settings.hint_lease_s,
            share=share,
            from_head=from_head,
        )

    def _limits(self, labourer_id: str) -> Limits:
        """Return what this process is configured with."""
        labourer = self._settings.labourer(labourer_id)
        return Limits(labourer.slots, labourer.rate, self._settings.hint_lease_s, self._started_at())

    def _rebuild(self, labourer_id: str) -> None:
        """Give every attempt that the table says is running its lease back: Redis is new, or came back without them.

        What is being claimed right now does not show as running yet. So nodes get their time to report in any case, but
        for a labourer that never had a slot.
        """
        never_ran = self._never_ran(labourer_id)
        tasks = self._task_table.running(labourer_id, now=self._clock())
        running = [task.current_attempt.holder for task in tasks if task.completed_at is None]
        settle_s = 0.0 if never_ran and not running else self._settings.settle_s
        limits, lease_s = self._limits(labourer_id), self._settings.lease_s
        if self._slots.rebuild(labourer_id, running, limits=limits, lease_s=lease_s, settle_s=settle_s):
            logger.info("slots rebuilt", extra={"labourer_id": labourer_id, "running": len(running)})

    def _never_ran(self, labourer_id: str) -> bool:
        try:
            return self._is_first_start(labourer_id)
        except StoreError as problem:
            logger.warning("not known whether it is its first start: %s", problem, extra={"labourer_id": labourer_id})
            return False

    def _read(self, labourer_id: str, share: float, progress: _Progress) -> None:
        """Read the queue on and hand out what comes, as far as there is room."""
        head_is_read = progress.start is None
        while progress.wants_rows and progress.room > 0:
            wanted = min(progress.room, TASKS_PER_TURN) + progress.read_again + 1
            queued = self._task_table.queued(labourer_id, now=self._clock(), start=progress.start, limit=wanted)
            if queued and not self._hand_out(labourer_id, share, queued, progress):
                break
            if len(queued) == wanted:
                progress.ties = queued[-1].greenfield == progress.start
                progress.start = queued[-1].greenfield
            elif head_is_read:
                self._slots.end_pass(labourer_id, work_seq=progress.work_seq, dry=True)
                break
            else:  # siblings write at the same time: rows behind the cursor show only from the head
                progress.start, head_is_read = None, True

    def _hand_out(self, labourer_id: str, share: float, queued: Sequence[Task], progress: _Progress) -> bool:
        """Hand out the tasks and publish the hints of those that got a slot; return whether there was room for all."""
        granted = self._slots.take(
            labourer_id,
            [(task.next_attempt.holder, task.greenfield) for task in queued],
            lease_s=self._settings.hint_lease_s,
            share=share,
            work_seq=progress.work_seq,
            standby=progress.target,
        )
        self._send(labourer_id, granted.holders)
        progress.add(granted)
        return not granted.refused

    def _send(self, labourer_id: str, holders: Sequence[str]) -> None:
        """Publish the hints of granted holders."""
        if not holders:
            return
        try:
            self._hints.publish([Hint(Attempt.from_holder(labourer_id, holder)) for holder in holders])
        except Exception:
            # Some may be on the queue: a worker that finds its lease gone takes another or drops the hint.
            for holder in holders:
                self._slots.take_back(labourer_id, holder)
            raise


def _pass_of(labourer_id: str) -> str:
    """Return the name under which the safety net's pass over a labourer's queue is asked for."""
    return f"pass {labourer_id}"


def standby_target(slots: int, view: PassView | None = None) -> int:
    """Return how many tasks of a labourer with so many slots should stand by.

    Parameters:
        view: What a pass sees at its beginning. If half of those who stood by did not last as long as it should, or
            lasted longer, it is twice or half as many now.
    """
    wanted = 0.0 if view is None else float(view.standby_target)
    if view is not None and view.is_low and view.filled_s_ago is not None:
        at_least_s, at_most_s = HALF_LASTS_S
        wanted *= 2.0 if view.filled_s_ago < at_least_s else 0.5 if view.filled_s_ago > at_most_s else 1.0
    return int(min(STANDBY_MAX, max(STANDBY_MIN, STANDBY_PER_SLOT * slots, wanted)))
