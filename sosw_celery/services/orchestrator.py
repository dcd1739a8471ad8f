"""Hands queued tasks out: as many hints to a labourer's queue as it has free slots, and no more."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sosw_celery.clock import Clock
from sosw_celery.core.model import Hint, Task
from sosw_celery.settings import Labourer, Settings
from sosw_celery.stores.slots import PassView, Slots
from sosw_celery.stores.task_table import TaskTable

__all__ = ["Dispatched", "Orchestrator"]

logger = logging.getLogger(__name__)

#: Hints of one turn of a pass: bounds the query, the Lua call and the batch of messages.
HINTS_PER_TURN = 200


@dataclass(frozen=True)
class Dispatched:
    """What a pass did.

    Parameters:
        hints: Tasks handed out.
        again_after_s: Seconds after which another pass is due because the rate limit allows the next start then; 0 when
            no pass is due.
    """

    hints: int
    again_after_s: float = 0.0


class Orchestrator:
    """Fills free slots from the queues of the tasks table. Any number of them may work at once.

    Parameters:
        publish: Puts hints on their labourers' queues.
        depth: Tells how many messages wait on a labourer's queue.
    """

    def __init__(
        self,
        settings: Settings,
        task_table: TaskTable,
        slots: Slots,
        *,
        publish: Callable[[Sequence[Hint]], None],
        depth: Callable[[str], int],
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._task_table = task_table
        self._slots = slots
        self._publish = publish
        self._depth = depth
        self._clock = clock

    def dispatch(self, labourer_id: str, *, from_head: bool = False) -> Dispatched:
        """Hand out the labourer's queued tasks until its slots are full or its queue is dry.

        Parameters:
            from_head: Read from the head of the queue, not from where the last pass stopped: the safety net's way.
        """
        labourer = self._settings.labourer(labourer_id)
        view = self._begin(labourer, from_head)
        if view.ready != "ready":
            return Dispatched(0)
        hints, free, start, handed_out = 0, view.free, view.cursor, view.pending
        head_is_read = start is None
        while free > 0:
            # Rows that are handed out and not claimed yet still stand in the queue and are read again.
            wanted = min(free, HINTS_PER_TURN) + handed_out + 1
            queued = self._task_table.queued(labourer_id, now=self._clock(), start=start, limit=wanted)
            granted, free, again_after_s = self._hand_out(labourer, queued, free, view.work_seq)
            hints += granted
            handed_out += granted
            if again_after_s:
                return Dispatched(hints, again_after_s)
            if len(queued) == wanted:
                start = queued[-1].greenfield
            elif head_is_read:
                self._slots.end_pass(labourer_id, work_seq=view.work_seq, dry=True)
                break
            else:  # siblings write at the same time: rows behind the cursor show only from the head
                start, head_is_read = None, True
        return Dispatched(hints)

    def tend(self, labourer_id: str, *, thorough: bool) -> Dispatched:
        """Dispatch in case a message was lost, and keep the slots of hints that still wait for a worker.

        Parameters:
            thorough: Look into the table even if nothing is known to wait there.
        """
        usage = self._slots.look(labourer_id)
        if usage.pending and self._depth(labourer_id) >= usage.pending:
            self._slots.renew_pending(labourer_id, lease_s=self._settings.hint_lease_s)
        if usage.ready == "ready" and usage.dry and not thorough:
            return Dispatched(0)
        return self.dispatch(labourer_id, from_head=True)

    def _begin(self, labourer: Labourer, from_head: bool) -> PassView:
        view = self._slots.begin_pass(labourer.id, limit=labourer.slots, from_head=from_head)
        if view.ready == "missing":
            self._rebuild(labourer.id)
            view = self._slots.begin_pass(labourer.id, limit=labourer.slots, from_head=from_head)
        return view

    def _rebuild(self, labourer_id: str) -> None:
        """Give every attempt that the table says is running its lease back: Redis is new, or came back empty."""
        tasks = self._task_table.running(labourer_id, now=self._clock())
        running = [task.current_attempt.holder for task in tasks if task.completed_at is None]
        settle_s = self._settings.settle_s if running else 0.0
        if self._slots.rebuild(labourer_id, running, lease_s=self._settings.lease_s, settle_s=settle_s):
            logger.info("slots rebuilt", extra={"labourer_id": labourer_id, "running": len(running)})

    def _hand_out(self, labourer: Labourer, queued: Sequence[Task], free: int, work_seq: int) -> tuple[int, int, float]:
        """Take slots for the tasks and publish their hints; return how many, the free slots and the rate's wait."""
        if not queued:
            return 0, free, 0.0
        by_holder = {task.next_attempt.holder: task for task in queued}
        granted = self._slots.take(
            labourer.id,
            [(holder, task.greenfield) for holder, task in by_holder.items()],
            limit=labourer.slots,
            lease_s=self._settings.hint_lease_s,
            rate=labourer.rate,
            work_seq=work_seq,
        )
        hints = [Hint(by_holder[holder].next_attempt) for holder in granted.holders]
        if hints:
            self._send(labourer.id, hints)
        return len(hints), max(0, labourer.slots - granted.used), granted.retry_after_s

    def _send(self, labourer_id: str, hints: Sequence[Hint]) -> None:
        try:
            self._publish(hints)
        except Exception:
            # Some may be on the queue: a worker that finds its lease gone takes another or drops the hint.
            for hint in hints:
                self._slots.release(labourer_id, hint.attempt.holder)
            raise
