"""Writing the rows of one part into the tasks table: under a lease, from checkpoint to checkpoint, each row once.

Why no row is put again over a task that has ended, or waits for a retry. A row is put only where none of its id stands
in the tasks table (`NewRows`), so it would need two requests for one row: one that puts it, and one that arrives after
the task has run and left the table. They would be

- of one owner of the part: it repeats a request only once that is over, and behind a look into all tables (`NewRows`);
- of two owners, one after the other. The first one asks its lease when the bytes go to the socket, by a clock that goes
  on while the machine is suspended, and sends nothing in the last fifth of it, the margin. By the end of the lease it
  has given every request up and reset its connection. The second one takes the part when another margin is over
  (`LeaseClock`), which is for what was on its way by then. It goes on behind the checkpoint, and looks into all tables
  for the one batch there that the first one may have begun; what comes after that nobody has sent. An owner that gives
  the part back early does so when its requests are over;
- of two chunkings of one job: parts are of a generation, and rows are written of the last one, whose parts stand fast
  before the first row is written.

What is left: a request that the network or DynamoDB holds back for longer than a margin after it was given up, and a
process that stands still for two of them in the microseconds between the question and the kernel's copy of the request.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from decimal import Decimal
from types import TracebackType

from sosw_celery.core.exact import EXACT, MICROSECOND
from sosw_celery.core.jobs.plan import decode_row, task_id
from sosw_celery.core.tasks import greenfield
from sosw_celery.core.tasks.history import Action, Observer, nobody
from sosw_celery.core.tasks.model import Task
from sosw_celery.errors import StoreError, TransitionRefused
from sosw_celery.services.lease_clock import LeaseClock
from sosw_celery.services.ports import Clock, Messenger
from sosw_celery.stores.dynamodb.client import sent_only_if
from sosw_celery.stores.dynamodb.job_table import JobTable, Part
from sosw_celery.stores.dynamodb.task_table import TaskTable

__all__ = ["Lease", "PartWriter"]

logger = logging.getLogger(__name__)

#: Share of a lease after which it is renewed.
RENEWED_AFTER = 1 / 3

#: Rows of one request, and requests under way at once.
ROWS_PER_REQUEST = 25
PARALLEL = 4


class Lease:
    """Something of the job table that is ours while the block runs, renewed by a thread of its own.

    So a write that takes long (a throttled table) does not lose it. A process that was stopped, or whose machine was
    suspended, does, and notices it by its steady clock, which went on meanwhile, before it writes again.

    Parameters:
        renew: Gives a sign of life; raises TransitionRefused when somebody else has taken over.
        margin_s: Seconds before its end in which no write begins.
        taken_at: What `steady` said before it was claimed.
    """

    def __init__(
        self,
        renew: Callable[[], object],
        *,
        lease_s: float,
        margin_s: float,
        taken_at: float,
        steady: Callable[[], float],
        name: str,
    ) -> None:
        self._renew = renew
        self._lease_s = lease_s
        self._margin_s = margin_s
        self._steady = steady
        self._name = name
        self._valid_until = taken_at + lease_s
        self._lost = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease of {name}", daemon=True)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def check(self) -> None:
        """Make sure that it is ours for long enough to begin a write.

        Raises:
            TransitionRefused: It is not, or may not be: stop writing.
        """
        if self._lost or self._steady() > self._valid_until - self._margin_s:
            raise TransitionRefused(self._name, "write", "a lease that ran out")

    def give_up(self) -> None:
        """Have no write begin any more."""
        self._lost = True

    def renewed(self, asked_at: float) -> None:
        """Note that a request sent at `asked_at` has renewed it."""
        self._valid_until = max(self._valid_until, asked_at + self._lease_s)

    def _keep(self) -> None:
        while not self._ended.wait(self._lease_s * RENEWED_AFTER):
            asked_at = self._steady()
            try:
                self._renew()
            except TransitionRefused:
                self._lost = True
                return
            except StoreError as problem:  # asked again after the next wait; `check` knows when it is too late
                logger.warning("lease not renewed: %s", problem, extra={"lease": self._name})
            else:
                self.renewed(asked_at)


class PartWriter:
    """Writes rows of a part that this process holds, in the order of the part.

    A context: its threads end with the block, and none of its requests is on its way then.

    Parameters:
        arn: Of the labourer, kept on each row.
        messenger: Announces, after each batch, the rows that may be new in the table.
        observe: Told of the tasks whose rows are in the table.
    """

    def __init__(
        self,
        part: Part,
        lease: Lease,
        *,
        labourer_id: str,
        arn: str,
        task_table: TaskTable,
        job_table: JobTable,
        messenger: Messenger,
        clock: Clock,
        lease_clock: LeaseClock,
        steady: Callable[[], float],
        lease_s: float,
        observe: Observer = nobody,
    ) -> None:
        self.part = part
        self._lease = lease
        self._labourer_id = labourer_id
        self._arn = arn
        self._task_table = task_table
        self._job_table = job_table
        self._messenger = messenger
        self._clock = clock
        self._lease_clock = lease_clock
        self._steady = steady
        self._lease_s = lease_s
        self._observe = observe
        self._unsure_until = part.next_row + (part.batch_rows if part.claims > 1 else 0)
        self._next_position = Decimal(0)
        self._pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="rows")

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:  # those that wait to be sent again may not keep us
            self._lease.give_up()
        self._pool.shutdown()

    @property
    def is_complete(self) -> bool:
        """Whether all rows of the part are in the table."""
        return self.part.written >= self.part.rows

    def write(self, lines: Sequence[str]) -> bool:
        """Put the lines of a queue file that are not in the table yet into it, and set the checkpoint behind them.

        The last ones need none: ending the part says the same.

        Returns False, and writes nothing, when these lines cannot be what follows the checkpoint: there are none, or
        some before them are missing.

        Raises:
            TransitionRefused: Somebody else holds the part now.
            StoreUnavailable: Some of the rows may be missing; the checkpoint stands before them.
        """
        try:
            rows = [row for row in map(decode_row, lines) if row[0] >= self.part.next_row]
        except ValueError:
            return False
        if not rows:
            return bool(lines)  # an owner before us had written them all
        expected = range(self.part.next_row, self.part.next_row + len(rows))
        if [number for number, _ in rows] != list(expected) or expected.stop > self.part.end_row:
            return False
        tasks = self._tasks(rows)
        self._put(tasks)
        if len(tasks) < len(rows):
            self._tell(None)  # the owner before us wrote some and may have died before it could say so
        self._advance(self.part.written + len(rows))
        return True

    def _put(self, tasks: Sequence[Task]) -> None:
        slices = [tasks[start : start + ROWS_PER_REQUEST] for start in range(0, len(tasks), ROWS_PER_REQUEST)]
        requests = [self._pool.submit(self._send, rows) for rows in slices]
        # None may be under way any more when the part is given up for the error of another one.
        wait(requests)
        for rows, request in zip(slices, requests, strict=True):
            if request.exception() is None:
                self._observe(Action.CREATED, rows, rows[0].created_at)
        if tasks:  # also when a request failed: what others wrote is there, and a lost answer leaves rows behind
            self._tell(tasks[0].greenfield)
        for request in requests:
            request.result()

    def _send(self, tasks: Sequence[Task]) -> None:
        self._lease.check()
        with sent_only_if(self._lease.check):
            self._task_table.write(tasks)

    def _advance(self, written: int) -> None:
        if written == self.part.rows:
            self.part = replace(self.part, written=written)
            return
        asked_at = self._steady()
        self.part = self._job_table.checkpoint(self.part, written, self._lease_clock.latest(), self._lease_s)
        self._lease.renewed(asked_at)

    def _tasks(self, rows: Sequence[tuple[int, str]]) -> list[Task]:
        ids = [task_id(self.part.job_id, number) for number, _ in rows]
        there = self._already_written(rows, ids)
        now = self._clock()
        # The clock may not have moved since the batch before, or may have been set back.
        first = max(now, self._next_position)
        tasks = [
            Task(
                task_id=identity,
                labourer_id=self._labourer_id,
                greenfield=position,
                created_at=now,
                payload=payload,
                job_id=self.part.job_id,
                arn=self._arn,
            )
            for (_, payload), identity, position in zip(rows, ids, greenfield.positions(first), strict=False)
            if identity not in there
        ]
        self._next_position = EXACT.fma(len(rows), MICROSECOND, first)
        return tasks

    def _already_written(self, rows: Sequence[tuple[int, str]], ids: Sequence[str]) -> set[str]:
        """Return which of the rows an owner before us wrote behind its last checkpoint."""
        unsure = [identity for (number, _), identity in zip(rows, ids, strict=True) if number < self._unsure_until]
        return self._task_table.existing(self._labourer_id, unsure) if unsure else set()

    def _tell(self, lowest: Decimal | None) -> None:
        try:
            self._messenger.announce(self._labourer_id, lowest)
        except Exception:
            # The rows are stored; the safety net finds them without the hint.
            logger.exception("work not announced", extra={"labourer_id": self._labourer_id})
