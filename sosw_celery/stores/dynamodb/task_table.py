"""The tables of tasks: queued and running ones, those that wait for a retry, and closed ones.

Every method is one of the moves of a task's life, or a look at it. A move that somebody else made first raises
`TransitionRefused`; that is an ordinary outcome. A move that this very caller made before, whose answer was lost,
counts as made.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from sosw_celery.core.exact import EXACT, MICROSECOND
from sosw_celery.core.isolation import each_by_itself
from sosw_celery.core.tasks import greenfield
from sosw_celery.core.tasks.history import Action, Observer, nobody
from sosw_celery.core.tasks.model import Attempt, Task
from sosw_celery.core.tasks.retrying import Dead, Retry
from sosw_celery.errors import (
    ContentRefused,
    ItemCorrupt,
    StoreError,
    StoreUnavailable,
    TaskNotFound,
    TransactionRefused,
    TransitionRefused,
)
from sosw_celery.stores.dynamodb import task_rows
from sosw_celery.stores.dynamodb.attributes import Item, number
from sosw_celery.stores.dynamodb.halving import in_halves
from sosw_celery.stores.dynamodb.new_rows import NewRows
from sosw_celery.stores.dynamodb.requests import (
    NO_STATEMENTS_CODES,
    WRITES_PER_BATCH,
    batches,
    get_all,
    pages,
    query_items,
    transact,
    translated,
    write_batch,
)
from sosw_celery.stores.dynamodb.tables import Tables

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["Failure", "Found", "Moved", "TaskTable"]

logger = logging.getLogger(__name__)

#: Rows of one read of those that wait for a retry: few, because as a rule few of them are due.
WAITING_PER_PAGE = 50
#: Deletes in one archiving transaction; the rest of DynamoDB's 100 is for the counters of their jobs.
ARCHIVED_PER_TRANSACTION = 50

#: Unless whoever makes the table knows better: seconds for which a put that was given up may still be on its way.
HELD_BACK_S = 6.0

JobCounters = Callable[..., Item]
OweNotice = Callable[[str, str, Decimal], Item]


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed and what it leaves behind.

    Parameters:
        error: Type and message, already cut.
        outcome: `stat_*` and `result_*` attributes of the attempt.
    """

    error: str
    outcome: Mapping[str, Any]


@dataclass(frozen=True)
class Found:
    """A task and the table that holds it: `tasks`, `retry` or `closed`; `dead` tells how a closed one ended."""

    task: Task
    where: str
    dead: bool = False


@dataclass(frozen=True)
class Moved:
    """What one call is known to have done: closed one attempt, claimed another's task."""

    closed: bool
    claimed: Task | None


class TaskTable:
    """The task tables of one configuration. Safe to share between threads.

    Parameters:
        delta: Seconds that mark a task as invoked (`greenfield_invocation_delta`).
        job_counters: Builds the update that adds completed, dead and spawned tasks to a job, for the same transaction.
        parallel: Batch calls under way at once.
        new_rows_client: Makes the client for rows of new tasks, which sends a request once and gives up early.
        held_back_s: Seconds for which such a request may still be on its way when it was given up.
        observe: Told of each move after it was made, except by `write`: who calls it knows when all are there.
        owe_notice: Builds the put that remembers a death, for the transaction that makes a task dead; None where nobody
            is told of dead tasks. Called with labourer, task and time.
    """

    def __init__(
        self,
        client: DynamoDBClient,
        tables: Tables,
        *,
        delta: Decimal,
        job_counters: JobCounters,
        parallel: int = 4,
        new_rows_client: Callable[[], DynamoDBClient] | None = None,
        held_back_s: float = HELD_BACK_S,
        observe: Observer = nobody,
        owe_notice: OweNotice | None = None,
    ) -> None:
        self.client = client
        self.tables = tables
        self.delta = delta
        self._job_counters = job_counters
        self._parallel = parallel
        self._observe = observe
        self._owe_notice = owe_notice
        self._has_batches = True
        self.new_rows = NewRows(new_rows_client or (lambda: client), tables, self.existing, held_back_s=held_back_s)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        """Threads for batch calls under way at once: kept, since making them takes longer than many a call."""
        return ThreadPoolExecutor(self._parallel, thread_name_prefix="sosw-batches")

    # ---- writing the queue

    def write(self, tasks: Sequence[Task]) -> None:
        """Have the rows of new tasks in the tasks table, each unless one of its id stands there. Idempotent.

        A task that has left the table, for the retry table or the closed one, would come back: see `NewRows`.

        Raises:
            InvalidJob: A task lacks one of the `required_fields`; none was written.
            StoreUnavailable: Some rows may be missing; write them all again, after a look at which are `existing`.
        """
        self.new_rows.put(tasks)

    def existing(self, labourer_id: str, task_ids: Sequence[str]) -> set[str]:
        """Return those of the ids that any table holds. Reads are consistent."""
        f = self.tables.field
        missing = set(task_ids)
        # In the order in which a task moves on, so that one that moves meanwhile is met; retries move back as well.
        for table in (self.tables.tasks, self.tables.retry, self.tables.tasks, self.tables.closed):
            owner = {f("labourer_id"): {"S": labourer_id}} if table == self.tables.retry else {}
            keys = [{**owner, f("task_id"): {"S": task_id}} for task_id in sorted(missing)]
            found = get_all(
                self.client, table, keys, ProjectionExpression="#id", ExpressionAttributeNames={"#id": f("task_id")}
            )
            missing -= {item[f("task_id")]["S"] for item in found}
        return set(task_ids) - missing

    def spawn(self, parent: Attempt, sibling: Task, *, now: Decimal) -> bool:
        """Put the row of a task that a running attempt asks for; return False when any table holds it already.

        One transaction sees that the attempt runs, puts the row, and counts it as one of its job's tasks.

        Raises:
            TransitionRefused: The parent's attempt does not run (any more).
        """
        if self.existing(sibling.labourer_id, [sibling.task_id]):
            return False
        fence = task_rows.delete_running(parent, greenfield.queue_end(now), self.tables)
        put = task_rows.insert_request(task_rows.new_item(sibling, self.tables), self.tables)
        counters = [{"Update": self._job_counters(sibling.job_id, 0, 0, 1)}] if sibling.job_id else []
        try:
            self._transact([{"ConditionCheck": fence}, {"Put": put}, *counters], "spawn")
        except TransactionRefused as refused:
            if refused.codes[0] == "ConditionalCheckFailed":
                raise TransitionRefused(parent.task_id, "spawn", "an attempt that has ended") from None
            return False  # it came back from the retry table meanwhile
        self._observe(Action.CREATED, (sibling,), now)
        return True

    # ---- looking

    def find(self, task_id: str, labourers: Sequence[str] = ()) -> Found:
        """Return a task wherever it is; the retry table is asked for each of the labourers.

        Raises:
            TaskNotFound: No table holds it.
        """
        f = self.tables.field
        key = {f("task_id"): {"S": task_id}}
        if item := self._get(self.tables.tasks, key):
            return Found(task_rows.from_item(item, self.tables), "tasks")
        if item := self._get(self.tables.closed, key):
            status = item.get(f("labourer_id_task_status"), {}).get("S", "")
            return Found(task_rows.from_item(item, self.tables), "closed", dead=status.endswith("_0"))
        for labourer_id in labourers:
            if item := self._get(self.tables.retry, {f("labourer_id"): {"S": labourer_id}, **key}):
                return Found(task_rows.from_item(item, self.tables), "retry")
        raise TaskNotFound(task_id)

    def queued(self, labourer_id: str, *, now: Decimal, start: Decimal | None, limit: int) -> list[Task]:
        """Return the first `limit` queued tasks from the greenfield `start` on, oldest first, as the index shows them.

        Fewer only at the end of the queue. Rows that cannot be read are set aside as dead, so that the queue goes on
        behind them.
        """
        query = task_rows.queue_query(labourer_id, start, greenfield.queue_end(now), limit, self.tables)
        return list(itertools.islice(self._tasks_of(query, now), limit))

    def running(self, labourer_id: str, *, now: Decimal) -> Iterator[Task]:
        """Yield the claimed tasks, oldest claim first, as the index shows them.

        These are running ones, and completed ones that are not archived yet.
        """
        yield from self._tasks_of(task_rows.running_query(labourer_id, greenfield.queue_end(now), self.tables), now)

    def count_queued(self, labourer_id: str, *, now: Decimal, at_most: int | None = None) -> int:
        """Return the length of a queue; reads the whole of it, or stops once `at_most` is reached."""
        query = task_rows.queue_query(labourer_id, None, greenfield.queue_end(now), 1, self.tables)
        return self._count(query, at_most)

    def count_running(self, labourer_id: str, *, now: Decimal) -> int:
        """Return how many tasks are claimed: running, or completed and not archived yet."""
        return self._count(task_rows.running_query(labourer_id, greenfield.queue_end(now), self.tables), None)

    def count_waiting(self, labourer_id: str, *, at_most: int | None = None) -> int:
        """Return how many tasks wait for a retry; reads them all, or stops once `at_most` is reached."""
        query = {
            "TableName": self.tables.retry,
            "KeyConditionExpression": "#l = :l",
            "ExpressionAttributeNames": {"#l": self.tables.field("labourer_id")},
            "ExpressionAttributeValues": {":l": {"S": labourer_id}},
        }
        return self._count(query, at_most)

    def closed(self, labourer_id: str, *, status: int, since: Decimal = Decimal(0)) -> Iterator[Task]:
        """Yield closed tasks of a labourer, 1 completed or 0 dead, in the order in which they were closed.

        Rows that cannot be read are left out.
        """
        rows = query_items(self.client, task_rows.closed_query(labourer_id, status, since, self.tables))
        yield from (task for row in rows if (task := self._task_or_none(row)) is not None)

    def recently_closed(self, labourer_id: str, *, status: int, limit: int) -> list[Task]:
        """Return the tasks that were closed last, 1 completed or 0 dead, the latest first.

        One read: at most `limit` tasks, fewer where 1 MB does not hold so many. Rows that cannot be read are left out.
        """
        query = task_rows.closed_query(labourer_id, status, Decimal(0), self.tables)
        with translated("Query"):
            rows = self.client.query(**query, ScanIndexForward=False, Limit=limit)["Items"]
        return [task for row in rows if (task := self._task_or_none(row)) is not None]

    # ---- moves of one task

    def claimer(self, node: str) -> str:
        """Return a name for one claim of a node: it is kept on the row, and tells a claim whose answer was lost."""
        return f"{node}/{secrets.token_hex(6)}"

    def claim(self, attempt: Attempt, *, now: Decimal, node: str, claimer: str = "") -> Task:
        """Make the task this attempt's own (queued -> invoked) and return its row.

        Parameters:
            node: Who claims; kept on the row.
            claimer: Of a claim that may have been made already; else a new one.

        Raises:
            TransitionRefused: The task is not queued, or this attempt is not its next one.
        """
        claimer = claimer or self.claimer(node)
        request = task_rows.claim_request(
            attempt, claimer, greenfield.claimed(now, self.delta), greenfield.queue_end(now), self.tables
        )
        with translated("UpdateItem"):
            try:
                row: Mapping[str, Any] = self.client.update_item(**request)["Attributes"]
            except self.client.exceptions.ConditionalCheckFailedException as refusal:
                row = refusal.response.get("Item", {})  # type: ignore[assignment]  # not in the stubs
                if row.get(task_rows.CLAIMED_BY) != {"S": claimer}:
                    raise TransitionRefused(attempt.task_id, "claim", self._state_of(row, now)) from None
        task = task_rows.from_item(row, self.tables)
        self._observe(Action.INVOKED, (task,), now)
        return task

    def complete(self, attempt: Attempt, *, now: Decimal, outcome: Mapping[str, Any], is_full: bool = False) -> None:
        """Close the attempt as completed with its stats and results (invoked -> completed).

        Parameters:
            is_full: The row has no room for anything: who claimed it gives way to when it was completed.

        Raises:
            TransitionRefused: Another attempt was made, or the task has left the table.
            ContentRefused: The row has no room for it.
        """
        request = task_rows.close_request(attempt, now, greenfield.queue_end(now), outcome, self.tables)
        if is_full:
            request["UpdateExpression"] += f" REMOVE {task_rows.CLAIMED_BY}"
        with translated("UpdateItem"):
            try:
                self.client.update_item(**request)
            except self.client.exceptions.ConditionalCheckFailedException as refusal:
                row: Mapping[str, Any] = refusal.response.get("Item", {})  # type: ignore[assignment]
                if not self._completed_by(attempt, row):
                    found = self._state_of(row, now)
                    self._observe(Action.CLOSED_LATE, (attempt,), now, found=found)
                    raise TransitionRefused(attempt.task_id, "complete", found) from None
        self._observe(Action.COMPLETED, (attempt,), now)

    def complete_and_claim(
        self, done: Attempt, following: Attempt, *, now: Decimal, outcome: Mapping[str, Any], claimer: str
    ) -> Moved:
        """Do `complete` for one attempt and `claim` for another, in one call. Each succeeds or not by itself.

        Raises nothing of the store's: what was not told to have been made may have been made all the same, and has to
        be made by `complete` and by `claim` with the same claimer.
        """
        self._observe(Action.DISPATCHED, (following,), now)  # by itself: no hint of it was published
        end = greenfield.queue_end(now)
        close = task_rows.close_statement(done, now, end, outcome, self.tables)
        claim = task_rows.claim_statement(following, claimer, greenfield.claimed(now, self.delta), end, self.tables)
        if close is None or claim is None or not self._has_batches or done.task_id == following.task_id:
            return Moved(False, None)
        statements: Any = [close, claim]
        try:
            with translated("BatchExecuteStatement"):
                closed, claimed = self.client.batch_execute_statement(Statements=statements)["Responses"]
        except StoreError as problem:
            self._note_refusals({problem.code})
            return Moved(False, None)
        errors = [answer.get("Error") for answer in (closed, claimed)]
        self._note_refusals({error.get("Code", "") if error else "" for error in errors})
        is_closed = not errors[0]
        if is_closed:
            self._observe(Action.COMPLETED, (done,), now)
        task = self._task_or_none(claimed["Item"]) if claimed.get("Item") else None
        if task is not None:
            self._observe(Action.INVOKED, (task,), now)
        return Moved(is_closed, task)

    def fail(self, attempt: Attempt, verdict: Retry | Dead, failure: Failure, *, now: Decimal) -> Task:
        """End the attempt as failed, in one transaction: into the retry table, or into the closed one as dead.

        Returns the row as it stands there. A task whose own fields leave no room for a word about its retry is dead.

        Raises:
            TransitionRefused: The attempt does not run (any more).
        """
        key = {self.tables.field("task_id"): {"S": attempt.task_id}}
        row = self._get(self.tables.tasks, key)
        if row is None:
            raise TransitionRefused(attempt.task_id, "fail", "no row in the tasks table")
        task = task_rows.from_item(row, self.tables)
        if task.attempts != attempt.number or task.completed_at is not None:
            raise TransitionRefused(attempt.task_id, "fail", self._state_of(row, now))
        delay = Decimal(repr(verdict.delay_s)) if isinstance(verdict, Retry) else Decimal(0)
        due_at = EXACT.quantize(EXACT.add(now, delay), MICROSECOND)
        failed = task_rows.retry_row(task, due_at, failure.error, failure.outcome)
        waiting = task_rows.fitted_retry_row(failed, self.tables) if isinstance(verdict, Retry) else None
        if waiting is None:
            failed = replace(failed, desired_launch_time=None)
        delete: Item = {"Delete": task_rows.delete_running(attempt, greenfield.queue_end(now), self.tables)}
        try:
            if waiting is None:
                self._bury(
                    delete, task_rows.archive_row(failed, now, status=0, tables=self.tables), failed, now, "fail"
                )
            else:
                self._transact([delete, {"Put": {"TableName": self.tables.retry, "Item": waiting}}], "fail")
        except TransactionRefused:
            raise TransitionRefused(attempt.task_id, "fail", "another attempt or a closed task") from None
        self._observe(Action.FAILED, (failed,), now, error=failure.error)
        due = failed.desired_launch_time
        if due is not None:
            self._observe(Action.SCHEDULED_FOR_RETRY, (failed,), now, desired_launch_time=due)
        else:
            self._observe(Action.ARCHIVED_DEAD, (failed,), now)
        return failed

    # ---- moves of many tasks

    def archive(self, tasks: Sequence[Task], *, now: Decimal) -> int:
        """Move completed tasks to the closed table and add them to their jobs' counters; return how many were moved.

        Idempotent, and exact whatever dies in between: a row is first put into the closed table, then its delete and
        its count are one transaction. A row that does not pass keeps no other from being moved: it is moved with as
        much of it as fits, and without its count where the item of its job cannot count.
        """
        moved = 0
        with each_by_itself("archive", ends_with=(StoreUnavailable,)) as steps:
            for batch in batches(tasks, ARCHIVED_PER_TRANSACTION):
                with steps.step(f"{len(batch)} tasks of {batch[0].labourer_id} from {batch[0].task_id} on"):
                    moved += len(in_halves(batch, partial(self._archive, now=now), partial(self._archive_one, now=now)))
        return moved

    def due(self, labourer_id: str, *, now: Decimal, limit: int) -> tuple[list[Task], Decimal | None]:
        """Return the first `limit` tasks whose wait for a retry is over, first due first, and when the next one is due.

        Reads are consistent. Rows that cannot be read are set aside as dead.
        """
        query: Item = {
            "TableName": self.tables.retry,
            "IndexName": self.tables.retry_index,
            "KeyConditionExpression": "#l = :l",
            "ExpressionAttributeNames": {"#l": self.tables.field("labourer_id")},
            "ExpressionAttributeValues": {":l": {"S": labourer_id}},
            "ConsistentRead": True,
            "Limit": min(limit + 1, WAITING_PER_PAGE),
        }
        due: list[Task] = []
        for task in self._tasks_of(query, now):
            at = task.desired_launch_time or Decimal(0)
            if at > now or len(due) == limit:
                return due, at
            due.append(task)
        return due, None

    def requeue(self, tasks: Sequence[Task], *, now: Decimal) -> int:
        """Put retried tasks back into their labourer's queue, each at its place; return how many."""
        back: list[Task] = []
        try:
            with each_by_itself("retry", ends_with=(StoreUnavailable,)) as steps:
                for task in tasks:
                    with steps.step(f"task {task.task_id}"):
                        if self._requeue(task, now):
                            back.append(task)
        finally:
            self._observe(Action.READY_FOR_RETRY, back, now)
        return len(back)

    # ---- inside

    def _note_refusals(self, codes: Set[str]) -> None:
        """Send no further batch of statements if all of one are refused for good, whatever they say."""
        if codes <= NO_STATEMENTS_CODES and self._has_batches:
            self._has_batches = False
            logger.warning("closes and claims are sent one by one from here on, batches are refused: %s", codes)

    def _requeue(self, task: Task, now: Decimal) -> bool:
        """Move a task from the retry table into the queue; return whether it was this call that did."""
        position = greenfield.retry_position(task.desired_launch_time or now)
        queued = task_rows.to_item(replace(task, greenfield=position, desired_launch_time=None), self.tables)
        delete = {"Delete": task_rows.delete_waiting(task, self.tables)}
        try:
            self._transact([delete, {"Put": task_rows.insert_request(queued, self.tables)}], "retry")
        except TransactionRefused as refused:
            if refused.codes[0] != "ConditionalCheckFailed":  # the put was: it stands in the tasks table already
                self._forget_retry(delete, task)
            return False  # or another scavenger was first
        except ContentRefused as refusal:
            self._set_aside(self.tables.retry, task_rows.to_item(task, self.tables), str(refusal), now)
            return False
        return True

    def _forget_retry(self, delete: Item, task: Task) -> None:
        """Delete the waiting row of a task that stands in the tasks table as well: written again, it begins anew there.

        The waiting row could never come back, and would be tried first in every sweep.
        """
        with contextlib.suppress(TransactionRefused):
            self._transact([delete], "forget retry")
            logger.warning("retry of a task that is in the tasks table again: %s", task.task_id)

    def _bury(self, delete: Item, row: Item, who: Task | Attempt, now: Decimal, operation: str) -> None:
        """Put a row into the closed table as dead in the transaction that deletes it elsewhere, count it, and owe word
        of it.

        A count or a word that cannot be written does not keep the row from being dead.

        Parameters:
            row: As it is put.
        """
        job_id = task_rows.job_of(row, self.tables)
        beside: list[Item] = [{"Update": self._job_counters(job_id, 0, 1)}] if job_id else []
        if self._owe_notice is not None:
            beside.append({"Put": self._owe_notice(who.labourer_id, who.task_id, now)})
        moved: list[Item] = [delete, {"Put": {"TableName": self.tables.closed, "Item": row}}]
        try:
            self._transact([*moved, *beside], operation)
        except ContentRefused as refusal:
            logger.error("%s of task %s, each write by itself: %s", operation, who.task_id, refusal)
            self._transact(moved, operation)
            for write in beside:
                self._write_beside(write, who.task_id)

    def _write_beside(self, write: Item, task_id: str) -> None:
        try:
            self._transact([write], "count")
        except ContentRefused as refusal:
            logger.error("not counted or not told of, task %s: %s", task_id, refusal)

    def _archive(self, batch: Sequence[Task], *, now: Decimal) -> Sequence[Task]:
        self._put_all(
            self.tables.closed, [task_rows.archive_row(task, now, status=1, tables=self.tables) for task in batch]
        )
        return self._moved(self._delete_counted(batch), now)

    def _archive_one(self, task: Task, refusal: ContentRefused, *, now: Decimal) -> Sequence[Task]:
        """Archive a row that was refused by itself: as little of it as has to pass, and counted only if it can be."""
        logger.error("task %s is archived as far as it can be: %s", task.task_id, refusal)
        row = task_rows.archive_row(task, now, status=1, tables=self.tables)
        try:
            self._put_all(self.tables.closed, [row])
        except ContentRefused as problem:
            reason = {"last_error": {"S": f"Completed, but its row could not be kept: {problem}"}}
            self._put_all(self.tables.closed, [task_rows.bare_row({**row, **reason}, self.tables)])
        try:
            gone = self._delete_counted([task])
        except ContentRefused:
            gone = self._delete_counted([task], counted=False)
        return self._moved(gone, now)

    def _moved(self, gone: Sequence[Task], now: Decimal) -> Sequence[Task]:
        self._observe(Action.ARCHIVED, gone, now)
        return gone

    def _delete_counted(self, tasks: Sequence[Task], *, counted: bool = True) -> Sequence[Task]:
        """Delete completed rows and count them; return which. What another scavenger has taken meanwhile is its own."""
        while tasks:
            counts = Counter(task.job_id for task in tasks if task.job_id and counted)
            deletes = [{"Delete": task_rows.delete_completed(task, self.tables)} for task in tasks]
            counters = [{"Update": self._job_counters(job_id, count, 0)} for job_id, count in counts.items()]
            try:
                self._transact([*deletes, *counters], "archive")
            except TransactionRefused as refused:
                codes = refused.codes[: len(tasks)]  # those of the counters come after
                still_ours = [task for task, code in zip(tasks, codes, strict=True) if code != "ConditionalCheckFailed"]
                if len(still_ours) == len(tasks):
                    raise
                tasks = still_ours
                continue
            return tasks
        return ()

    def _readable(self, table: str, rows: Sequence[Mapping[str, Any]], now: Decimal) -> Iterator[Task]:
        """Yield the tasks of rows; those that cannot be read are set aside as dead."""
        for row in rows:
            try:
                yield task_rows.from_item(row, self.tables)
            except ItemCorrupt as problem:
                try:
                    self._set_aside(table, row, str(problem), now)
                except StoreError as refusal:
                    # It is met again by the next look. Nothing that is behind it waits for that.
                    logger.error("row that cannot be read is not set aside for now: %s", refusal)

    def _task_or_none(self, row: Mapping[str, Any]) -> Task | None:
        with contextlib.suppress(ItemCorrupt):  # it was set aside as dead because it cannot be read
            return task_rows.from_item(row, self.tables)
        return None

    def _set_aside(self, table: str, row: Mapping[str, Any], reason: str, now: Decimal) -> None:
        """Move a row of the tasks or the retry table that can never pass into the closed table as dead, with the
        reason."""
        f = self.tables.field
        key_fields = ("labourer_id", "task_id") if table == self.tables.retry else ("task_id",)
        delete = {
            "TableName": table,
            "Key": {f(name): row[f(name)] for name in key_fields},
            "ConditionExpression": "attribute_exists(#id)",
            "ExpressionAttributeNames": {"#id": f("task_id")},
        }
        corrupt = Attempt(row[f("labourer_id")]["S"], row[f("task_id")]["S"], 0)
        dead = task_rows.corrupt_row(row, reason, now, self.tables)
        try:
            self._bury({"Delete": delete}, dead, corrupt, now, "set aside")
        except TransactionRefused:
            return  # somebody else has set it aside
        except ContentRefused as refusal:
            logger.error("of task %s only its ids are kept: %s", corrupt.task_id, refusal)
            self._bury({"Delete": delete}, task_rows.bare_row(dead, self.tables), corrupt, now, "set aside")
        # Why, says the row: what it holds is its owner's own.
        logger.error("row set aside as dead: task %s of %s", corrupt.task_id, corrupt.labourer_id)
        self._observe(Action.ARCHIVED_DEAD, (corrupt,), now, error=dead["last_error"]["S"])

    def _transact(self, writes: Sequence[Any], operation: str) -> None:
        transact(self.client, writes, operation)

    def _completed_by(self, attempt: Attempt, row: Mapping[str, Any]) -> bool:
        return bool(row) and (
            row.get(self.tables.field("attempts")) == number(attempt.number)
            and self.tables.field("completed_at") in row
        )

    def _state_of(self, row: Mapping[str, Any], now: Decimal) -> str:
        """Return in words what a refused write met, for its log line."""
        if not row:
            return "no row in the tasks table"
        f = self.tables.field
        attempts = row.get(f("attempts"), {}).get("N", "0")
        if f("completed_at") in row:
            return f"completed by attempt {attempts}"
        queued = Decimal(row[f("greenfield")]["N"]) <= greenfield.queue_end(now)
        return f"queued after attempt {attempts}" if queued else f"running as attempt {attempts}"

    def _get(self, table: str, key: Item) -> Item | None:
        with translated("GetItem"):
            return self.client.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")

    def _count(self, query: Item, at_most: int | None) -> int:
        query = {**query, "Select": "COUNT"}
        query.pop("Limit", None)
        total = 0
        for page in pages(self.client, query):
            total += page["Count"]
            if at_most is not None and total >= at_most:
                break
        return total

    def _tasks_of(self, query: Item, now: Decimal) -> Iterator[Task]:
        for page in pages(self.client, query):
            yield from self._readable(query["TableName"], page["Items"], now)

    def _put_all(self, table: str, rows: Sequence[Item]) -> None:
        """Put rows in batches, several at once."""
        put = partial(write_batch, self.client, table)
        puts = batches([{"PutRequest": {"Item": row}} for row in rows], WRITES_PER_BATCH)
        if len(puts) <= 1 or self._parallel <= 1:
            for batch in puts:
                put(batch)
            return
        list(self._pool.map(put, puts))  # waits for all and raises the first error
