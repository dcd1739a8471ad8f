"""Keeps the history of tasks: what the system observes and what workers post, written beside the work.

Events wait in a bounded buffer of the process; threads of their own write them, 25 at a time, as soon as so many wait
or the first of them has waited for `flush_s`, and at the end of the process. Nobody waits for them, and nothing fails
because of them: while the store does not answer they are tried again, the oldest are dropped once the buffer is full,
and what was dropped is counted in a warning. A process that is killed takes the events of its last `flush_s` along.

Source: sosw's class of this name, which writes one row per call before the work goes on.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from sosw_celery.clock import Clock
from sosw_celery.config.history import MetaHandlerConfig
from sosw_celery.core.tasks.history import RESERVED, Action, Event, Origin
from sosw_celery.core.tasks.model import Attempt, Task
from sosw_celery.errors import StoreError, StoreUnavailable
from sosw_celery.stores.dynamodb.attributes import Item
from sosw_celery.stores.dynamodb.history_table import HistoryTable, item_of
from sosw_celery.stores.dynamodb.requests import WRITES_PER_BATCH

__all__ = ["MetaHandler", "OwnMeta"]

logger = logging.getLogger(__name__)

#: Threads that write while many events wait: a Scheduler makes them faster than one thread writes them.
WRITERS = 4
#: Seconds until a store that did not answer is asked again.
RETRY_S = 1.0
#: Seconds between two warnings about dropped events.
WARN_S = 10.0
#: Seconds that the end of a process waits for its last events.
END_S = 5.0


class MetaHandler:
    """The history of tasks, as one process writes it. Does nothing where `config` is None.

    Parameters:
        table: Gives the table; asked once, by the thread that writes.
        origin: Tells who acts now: called in the thread that acts.
    """

    def __init__(
        self,
        config: MetaHandlerConfig | None,
        *,
        table: Callable[[], HistoryTable],
        origin: Callable[[], Origin],
        clock: Clock,
    ) -> None:
        self._config = config or MetaHandlerConfig()
        self._is_on = config is not None
        self._origin = origin
        self._clock = clock
        # What keeps events of one microsecond apart: a counter, and digits that no other process has.
        self._counter = itertools.count()
        self._own_digits = f"{secrets.randbelow(10**8):08d}"
        self._buffer = _Buffer(table, self._config.buffer_events, self._config.flush_s)

    def __bool__(self) -> bool:
        """Whether a history is kept. Code of sosw asks so before it posts; it need not."""
        return self._is_on

    def post(self, task_id: str, action: str, **fields: Any) -> None:
        """Note something about a task. Returns at once; never fails for what the store says.

        Parameters:
            action: What happened, in words of one's own.
            fields: Kept on the event with the types of their values, or those that `row_mapper` states.

        Raises:
            ValueError: There is no task or no action, or a field tells who posts: that is filled in here.
        """
        _check(task_id, action, fields)
        if self._is_on:
            self._add([(task_id, str(action), fields)], self._clock())

    def observe(self, action: Action, tasks: Sequence[Task | Attempt], at: Decimal, **fields: Any) -> None:
        """Note what the system did to tasks (`Observer`). Raises nothing, whatever goes wrong with it."""
        try:
            self._add([(task.task_id, action.value, {**_facts(task), **fields}) for task in tasks], at)
        except Exception:
            logger.exception("history: %s not noted", action.value)

    def flush(self, timeout_s: float = END_S) -> bool:
        """Have what waits written now; return whether that was done within the time. For the end of a process."""
        return self._buffer.flush(timeout_s)

    def _add(self, happened: Sequence[tuple[str, str, Mapping[str, Any]]], at: Decimal) -> None:
        origin = self._origin()
        events = [Event(task_id, self._unique(at), action, origin, fields) for task_id, action, fields in happened]
        if not self._config.write_meta_to_ddb:
            for event in events:
                logger.info("history: %s", event.action, extra={"task_id": event.task_id, "event": event})
            return
        table = self._config.dynamo_db_config
        rows = [item_of(event, table.row_mapper) for event in events]
        whole = [row for row in rows if all(name in row for name in table.required_fields)]
        if len(whole) < len(rows):
            logger.warning("history: %d events without a field of required_fields dropped", len(rows) - len(whole))
        self._buffer.add(whole)

    def _unique(self, at: Decimal) -> Decimal:
        return Decimal(f"{at:.6f}{next(self._counter) % 10**6:06d}{self._own_digits}")


class OwnMeta:
    """The history of one task, as its worker's code sees it: `self.meta_handler.post(action="resized", size=9)`.

    Parameters:
        handler: None outside a worker process; then nothing is kept.
        attempt: Whose history it is where `post` names no task.
    """

    def __init__(self, handler: MetaHandler | None, attempt: Attempt | None) -> None:
        self._handler = handler
        self._attempt = attempt

    def __bool__(self) -> bool:
        """Whether a history is kept. Code of sosw asks so before it posts; it need not."""
        return bool(self._handler)

    def post(self, task_id: str | None = None, action: str = "", **fields: Any) -> None:
        """Note something about the task that runs, or about another one. See `MetaHandler.post`."""
        attempt = self._attempt
        if attempt is not None and task_id in (None, attempt.task_id):
            task_id, fields = attempt.task_id, {**_facts(attempt), **fields}
        if self._handler is not None:
            self._handler.post(task_id or "", action, **fields)
        else:
            _check(task_id or "this", action, fields)


class _Buffer:
    """Rows on their way to the table, in one process: a child forked from it starts with none and writes none."""

    def __init__(self, table: Callable[[], HistoryTable], capacity: int, flush_s: float) -> None:
        self._make_table = table
        self._table: HistoryTable | None = None
        self._capacity = capacity
        self._flush_s = flush_s
        self._waiting: deque[Item] = deque()
        self._changed = threading.Condition()
        self._threads = 0
        self._writing = 0
        self._hurry = False
        self._dropped = 0
        self._warned_at = -WARN_S
        self._pid = os.getpid()

    def add(self, rows: Sequence[Item]) -> None:
        with self._changed:
            before = len(self._waiting)
            self._waiting.extend(rows)
            self._drop_oldest()
            if len(self._waiting) > self._threads * WRITES_PER_BATCH and self._threads < WRITERS:
                self._start_writer()
            # Not for each row: a thread that is woken takes the interpreter from the work.
            if before == 0 or before < WRITES_PER_BATCH <= len(self._waiting):
                self._changed.notify(-(-len(self._waiting) // WRITES_PER_BATCH))

    def flush(self, timeout_s: float) -> bool:
        if self._pid != os.getpid() or self._threads == 0:
            return True
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: not self._waiting and not self._writing, timeout_s)
            self._hurry = False
            lost, self._dropped = self._dropped + len(self._waiting), 0
        if lost:
            logger.warning("history: %d events were not written", lost)
        return done

    def _start_writer(self) -> None:
        if self._threads == 0:
            atexit.register(self.flush, END_S)
        self._threads += 1
        threading.Thread(target=self._write_on, name="sosw-history", daemon=True).start()

    def _drop_oldest(self) -> None:
        while len(self._waiting) > self._capacity:
            self._waiting.popleft()
            self._dropped += 1

    def _write_on(self) -> None:
        while True:
            rows = self._take()
            try:
                left = self._write(rows)
            except Exception:
                logger.exception("history: %d events lost", len(rows))
                left = []
            self._put_back(left)

    def _take(self) -> list[Item]:
        """Wait until there is enough to write, or something has waited for long enough, and take it."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting)
                self._changed.wait_for(lambda: len(self._waiting) >= WRITES_PER_BATCH or self._hurry, self._flush_s)
                rows = [self._waiting.popleft() for _ in range(min(WRITES_PER_BATCH, len(self._waiting)))]
                if rows:  # another writer may have been faster
                    self._writing += 1
                    return rows

    def _put_back(self, left: Sequence[Item]) -> None:
        with self._changed:
            self._waiting.extendleft(reversed(left))
            self._drop_oldest()
            self._writing -= 1
            if self._hurry:
                self._changed.notify_all()
            dropped = self._dropped_to_tell()
        if dropped:
            logger.warning("history: the buffer was full, %d events dropped", dropped)
        if left:
            time.sleep(RETRY_S / 10 if self._hurry else RETRY_S)

    def _dropped_to_tell(self) -> int:
        now = time.monotonic()
        if not self._dropped or now - self._warned_at < WARN_S:
            return 0
        dropped, self._dropped, self._warned_at = self._dropped, 0, now
        return dropped

    def _write(self, rows: Sequence[Item]) -> list[Item]:
        """Write rows; return those to try again."""
        if self._table is None:
            self._table = self._make_table()
        try:
            return self._table.write(rows)
        except StoreUnavailable as problem:
            logger.info("history: not written, trying again: %s", problem)
            return list(rows)
        except StoreError as problem:
            if len(rows) > 1 and problem.code == "ValidationException":  # one of them spoils the others
                return [left for row in rows for left in self._write([row])]
            logger.warning("history: %d events lost: %s", len(rows), problem)
            return []


def _check(task_id: str, action: str, fields: Mapping[str, Any]) -> None:
    if not task_id or not action:
        raise ValueError("an event needs a task_id and an action")
    if own := fields.keys() & {*RESERVED, "created_at"}:
        raise ValueError(f"{', '.join(sorted(own))}: filled in by the history itself")


def _facts(task: Task | Attempt) -> dict[str, Any]:
    """Return what each event of a task tells beside its action."""
    number = task.number if isinstance(task, Attempt) else task.attempts
    return {"labourer_id": task.labourer_id} | ({"attempts": number} if number else {})
