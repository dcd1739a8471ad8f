"""Ends of attempts on the real engine: whatever a body leaves, its attempt is closed, and what fits is kept."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import fakeredis
import pytest

from sosw_celery.config.settings import greenfield_delta, load_settings
from sosw_celery.core.tasks.model import Attempt, Task
from sosw_celery.errors import ContentRefused
from sosw_celery.services.attempts import Attempts, Outcome, Run
from sosw_celery.services.hint_publisher import HintPublisher
from sosw_celery.services.siblings import Siblings
from sosw_celery.services.worker_assistant import COMPLETED, FAILED, WorkerAssistant, closing_message
from sosw_celery.stores.dynamodb.job_table import JobTable
from sosw_celery.stores.dynamodb.tables import Tables, create_tables
from sosw_celery.stores.dynamodb.task_table import TaskTable
from sosw_celery.stores.redis.slots import Limits, Slots
from tests.harness.messenger import FakeMessenger

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class Worker:
    """Claims and closes tasks on the real engine, its slots on the twin of Redis."""

    def __init__(self, client: DynamoDBClient, tables: Tables) -> None:
        self.now = Decimal(1_795_392_000)
        settings = load_settings({"labourers": {"resize": {"max_attempts": 9}}})
        counters = JobTable(client, tables).counters_update
        self.task_table = TaskTable(client, tables, delta=greenfield_delta(settings), job_counters=counters, parallel=1)
        self.slots = Slots(fakeredis.FakeRedis())
        self.slots.rebuild("resize", [], limits=Limits(1), lease_s=60, settle_s=0)
        messenger = FakeMessenger()
        hints = HintPublisher(
            settings,
            lambda: self.task_table,
            self.slots,
            messenger=messenger,
            node="node",
            clock=lambda: self.now,
        )
        self.attempts = Attempts(
            settings,
            self.task_table,
            self.slots,
            node="node",
            hints=hints,
            messenger=messenger,
            job_ended=lambda job_id: None,
            clock=lambda: self.now,
        )
        siblings = Siblings(settings, self.task_table, messenger=messenger, clock=lambda: self.now)
        self.assistant = WorkerAssistant(self.attempts, siblings)

    def queue(self, task_id: str, payload_bytes: int) -> None:
        """Write a task with a payload of so many bytes."""
        payload = '{"a": "%s"}' % ("x" * (payload_bytes - 9))
        self.task_table.write([Task(task_id, "resize", greenfield=self.now, created_at=self.now, payload=payload)])

    def begin(self, attempt: Attempt) -> Run:
        """Claim a task."""
        return Run(self.task_table.claim(attempt, now=self.now, node="node"))

    def retried(self) -> list[Task]:
        """Bring tasks back whose wait for a retry is over."""
        self.now += 1000
        due, _ = self.task_table.due("resize", now=self.now, limit=10)
        assert self.task_table.requeue(due, now=self.now) == len(due)
        return due

    def row(self, task_id: str) -> Task:
        """Return a row, wherever it is."""
        return self.task_table.find(task_id, ["resize"]).task


@pytest.fixture
def worker(dynamodb_client: DynamoDBClient, table_prefix: str) -> Worker:
    """A worker with empty tables."""
    names = {name: f"{table_prefix}{name}" for name in ("tasks", "closed", "retry", "jobs")}
    tables = Tables(**names)
    create_tables(dynamodb_client, tables)
    return Worker(dynamodb_client, tables)


def test_a_result_is_bound_by_what_its_row_has_left(worker: Worker) -> None:
    """A payload of 300 KB leaves room for no result of 150 KB: the task is completed, and its row says so."""
    worker.queue("task-1", 300_000)
    run = worker.begin(Attempt("resize", "task-1", 1))
    run.stats["pages"] = 7
    worker.attempts.complete(run.attempt, run.outcome({"text": "y" * 150_000}))
    row = worker.row("task-1")
    assert (row.completed_at, row.extra["stat_pages"]) == (worker.now, 7)
    assert row.extra["result_dropped"].startswith("150011 bytes of results exceed the ")
    worker.queue("task-2", 300_000)
    run = worker.begin(Attempt("resize", "task-2", 1))
    worker.attempts.complete(run.attempt, run.outcome({"text": "y" * 90_000}))
    assert len(worker.row("task-2").extra["result_text"]) == 90_000


@pytest.mark.parametrize("action", [COMPLETED, FAILED])
def test_what_the_table_refuses_all_the_same_is_left_out(worker: Worker, action: str) -> None:
    """Who sends to the assistant knows nothing of the row; nobody tries for ever to write what does not fit."""
    worker.queue("task-1", 300_000)
    attempt = worker.begin(Attempt("resize", "task-1", 1)).attempt
    message: dict[str, Any] = closing_message(action, attempt, Outcome())
    worker.assistant.handle({**message, "outcome": None, "result": {"text": "y" * 150_000}})
    row = worker.row("task-1")
    assert "result_text" not in row.extra
    if action == COMPLETED:
        assert row.completed_at == worker.now
        assert row.extra["result_dropped"].startswith("stats and results are left out: dynamodb: UpdateItem failed")
    else:
        assert row.desired_launch_time is not None
        assert row.extra["dropped_attributes"].startswith("result_text (")


def test_a_row_without_room_for_a_word_is_completed_all_the_same(worker: Worker) -> None:
    """Written by hand, so large that it can just be claimed: who claimed it gives way to when it was completed."""
    runs: list[Run] = []

    def is_claimed(payload_bytes: int) -> bool:
        task_id = f"task-{payload_bytes}"
        worker.queue(task_id, payload_bytes)
        try:
            runs.append(worker.begin(Attempt("resize", task_id, 1)))
        except ContentRefused:
            return False
        return True

    low, high = 409_000, 409_600
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_claimed(middle) else (low, middle)
    run = max(runs, key=lambda run: len(run.task.payload))
    worker.attempts.complete(run.attempt, run.outcome({"n": 1}))
    row = worker.row(run.task.task_id)
    assert (row.completed_at, row.extra) == (worker.now, {})
    assert len(row.payload) == low


def test_what_failed_attempts_leave_does_not_add_up(worker: Worker) -> None:
    """Each leaves 60 KB under another name, beside a payload of 200 KB; the one that completes keeps all of its own."""
    worker.queue("task-1", 200_000)
    for number in range(1, 8):
        run = worker.begin(Attempt("resize", "task-1", number))
        worker.attempts.fail(run.attempt, "broken", run.outcome({f"try_{number}": "y" * 60_000}))
        assert [task.attempts for task in worker.retried()] == [number]
    run = worker.begin(Attempt("resize", "task-1", 8))
    worker.attempts.complete(run.attempt, run.outcome({"text": "z" * 60_000}))
    row = worker.row("task-1")
    assert (row.completed_at, row.failed_attempts) == (worker.now, 7)
    assert len(row.extra["result_text"]) == 60_000


def test_a_line_goes_on_past_an_end_that_does_not_fit(worker: Worker) -> None:
    """The statement that closes one task and claims the next is refused in part; both are done all the same."""
    worker.queue("task-1", 300_000)
    worker.queue("task-2", 100)
    run = worker.begin(Attempt("resize", "task-1", 1))
    worker.slots.confirm("resize", run.attempt.holder, lease_s=60)
    worker.slots.take("resize", [("task-2/1", worker.now)], lease_s=60, standby=5)
    following = worker.attempts.go_on(run.attempt, Outcome(result={"text": "y" * 150_000}), lambda attempt: None)
    assert following is not None
    assert following.attempt == Attempt("resize", "task-2", 1)
    assert "result_dropped" in worker.row("task-1").extra


@pytest.mark.parametrize("by_message", [False, True])
def test_every_door_keeps_the_same(worker: Worker, by_message: bool) -> None:
    """Sets, bytes, decimals and dates are the same on the row, whoever writes it."""
    result = {"names": {"a", "b"}, "raw": b"\xff", "sum": Decimal("1.50"), "ratio": 0.1, 5: {("a", 1): {2, 3}}}
    worker.queue("task-1", 100)
    run = worker.begin(Attempt("resize", "task-1", 1))
    outcome = run.outcome(result)
    if by_message:
        worker.assistant.handle(closing_message(COMPLETED, run.attempt, outcome))
    else:
        worker.attempts.complete(run.attempt, outcome)
    extra = worker.row("task-1").extra
    assert {name: value for name, value in extra.items() if name.startswith("result_")} == {
        "result_names": {"a", "b"},
        "result_raw": b"\xff",
        "result_sum": Decimal("1.5"),
        "result_ratio": Decimal("0.1"),
        "result_5": {"('a', 1)": {2, 3}},
    }
