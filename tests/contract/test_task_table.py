"""What the task tables promise, on the twin and on the real engine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import boto3
import moto
import pytest
from botocore.exceptions import ClientError

from sosw_celery.core.tasks import greenfield
from sosw_celery.core.tasks.model import Attempt, Task
from sosw_celery.core.tasks.retrying import Dead, Retry
from sosw_celery.errors import ItemCorrupt, TaskNotFound, TransitionRefused
from sosw_celery.stores.dynamodb.tables import Tables, create_tables
from sosw_celery.stores.dynamodb.task_rows import archive_row, to_item
from sosw_celery.stores.dynamodb.task_table import Failure, Moved, TaskTable

NOW = Decimal("1795392000.000001")
DELTA = Decimal(31_557_600)
LABOURER = "resize"
FAILURE = Failure("ValueError: broken", {"stat_tries": 1})

Rows = Callable[[str], list[dict[str, Any]]]


@pytest.fixture(params=["twin", "real", "real, own field names"])
def table(request: pytest.FixtureRequest, table_prefix: str) -> Iterator[TaskTable]:
    """Empty task tables."""
    names = {"task_id": "id", "greenfield": "gf", "attempts": "tries"} if "own" in request.param else {}
    tables = Tables(
        tasks=f"{table_prefix}tasks",
        closed=f"{table_prefix}closed",
        retry=f"{table_prefix}retry",
        jobs=f"{table_prefix}jobs",
        field_names=names,
    )
    if request.param == "twin":
        with moto.mock_aws():
            yield _created(boto3.client("dynamodb"), tables)
    else:
        yield _created(request.getfixturevalue("dynamodb_client"), tables)


def _created(client: Any, tables: Tables) -> TaskTable:
    create_tables(client, tables)

    def counters(job_id: str, completed: int, dead: int) -> dict[str, Any]:
        return {
            "TableName": tables.jobs,
            "Key": {"job_id": {"S": job_id}},
            "UpdateExpression": "ADD completed :c, dead :d",
            "ExpressionAttributeValues": {":c": {"N": str(completed)}, ":d": {"N": str(dead)}},
        }

    return TaskTable(client, tables, delta=DELTA, job_counters=counters)


def make(number: int, job_id: str = "job", labourer_id: str = LABOURER) -> Task:
    """Return a queued task, one second after the one before."""
    return Task(
        task_id=f"task-{number:04d}",
        labourer_id=labourer_id,
        greenfield=NOW - 1000 + number,
        created_at=NOW - 1000,
        payload=f'{{"n": {number}}}',
        job_id=job_id,
        arn="arn:aws:lambda:eu-west-1:000000000000:function:resize",
    )


def claimed(table: TaskTable, task: Task, now: Decimal = NOW) -> Attempt:
    """Claim the task's next attempt."""
    return table.claim(task.next_attempt, now=now, node="node").current_attempt


def job_counts(table: TaskTable, job_id: str = "job") -> tuple[int, int]:
    """Return how many tasks the job's item counts as completed and as dead."""
    item = table.client.get_item(TableName=table.tables.jobs, Key={"job_id": {"S": job_id}})["Item"]
    return int(item["completed"]["N"]), int(item["dead"]["N"])


def test_written_tasks_are_queued_in_the_order_of_their_greenfield(table: TaskTable) -> None:
    """What was written is read from the head of the queue, oldest first, digit by digit as it was."""
    tasks = [make(number) for number in range(60)]
    table.write(tasks[::-1])
    assert table.queued(LABOURER, now=NOW, start=None, limit=100) == tasks
    assert table.queued(LABOURER, now=NOW, start=tasks[10].greenfield, limit=5) == tasks[10:15]
    assert table.queued("other", now=NOW, start=None, limit=5) == []
    assert table.count_queued(LABOURER, now=NOW) == 60


def test_a_row_that_stands_there_is_not_written_again(table: TaskTable) -> None:
    """Running or completed as it may be: writing the task once more leaves it so, and writes what is missing."""
    table.write([make(1), make(2)])
    claimed(table, make(1))
    table.complete(claimed(table, make(2)), now=NOW, outcome={"result_x": 1})
    before = [table.find(f"task-{number:04d}").task for number in (1, 2)]
    table.write([make(number) for number in range(1, 31)])
    assert [table.find(f"task-{number:04d}").task for number in (1, 2)] == before
    assert table.queued(LABOURER, now=NOW, start=None, limit=100) == [make(number) for number in range(3, 31)]


def test_new_rows_cost_what_puts_cost(engine_table: TaskTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """One write for the table and one for the index, of which 25 go in one request of statements, and none alone."""
    units: list[float] = []
    client = engine_table.new_rows.client
    execute = client.batch_execute_statement

    def metered(**request: Any) -> Any:
        answer = execute(**request, ReturnConsumedCapacity="INDEXES")
        units.append(sum(one["CapacityUnits"] for one in answer["ConsumedCapacity"]))
        return answer

    monkeypatch.setattr(client, "batch_execute_statement", metered)
    monkeypatch.delattr(type(client), "put_item")
    engine_table.write([make(number) for number in range(60)])
    assert units == [50, 50, 20]


def test_a_task_written_by_a_clock_that_is_fast_is_queued(table: TaskTable) -> None:
    """A greenfield of some minutes ahead does not hide a task, nor make it look claimed."""
    ahead = make(2000)
    table.write([ahead])
    assert table.queued(LABOURER, now=NOW, start=None, limit=5) == [ahead]
    assert list(table.running(LABOURER, now=NOW)) == []


def test_a_claim_takes_the_task_out_of_the_queue_and_brings_its_row(table: TaskTable) -> None:
    """A claimed task is running, in its first attempt, and no longer queued."""
    table.write([make(1)])
    task = table.claim(make(1).next_attempt, now=NOW, node="node")
    assert (task.attempts, task.payload, task.job_id) == (1, '{"n": 1}', "job")
    assert task.greenfield == greenfield.claimed(NOW, DELTA)
    assert table.queued(LABOURER, now=NOW, start=None, limit=5) == []
    assert [found.task_id for found in table.running(LABOURER, now=NOW)] == ["task-0001"]


@pytest.mark.parametrize(
    "attempt",
    [
        pytest.param(Attempt(LABOURER, "task-0001", 1), id="claimed already"),
        pytest.param(Attempt(LABOURER, "task-0001", 2), id="next attempt while one runs"),
        pytest.param(Attempt(LABOURER, "task-0002", 2), id="not the next attempt"),
        pytest.param(Attempt("other", "task-0002", 1), id="another labourer"),
        pytest.param(Attempt(LABOURER, "task-0009", 1), id="no such task"),
    ],
)
def test_a_claim_out_of_turn_is_refused_and_changes_nothing(table: TaskTable, attempt: Attempt) -> None:
    """Stale, doubled and foreign hints cost one refused write."""
    table.write([make(1), make(2)])
    claimed(table, make(1))
    with pytest.raises(TransitionRefused):
        table.claim(attempt, now=NOW, node="node")
    assert table.find("task-0001").task.attempts == 1
    assert table.find("task-0002").task == make(2)


def test_one_of_many_claimers_wins(table: TaskTable) -> None:
    """Eight claims at once make one attempt."""
    table.write([make(1)])
    outcomes: list[bool] = []

    def claim() -> None:
        try:
            table.claim(make(1).next_attempt, now=NOW, node="node")
        except TransitionRefused:
            outcomes.append(False)
        else:
            outcomes.append(True)

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 7 + [True]


def test_a_close_keeps_stats_and_results_and_repeats_without_harm(table: TaskTable) -> None:
    """A completed task keeps what its worker counted and found, with its types; the second close counts as made."""
    table.write([make(1)])
    attempt = claimed(table, make(1))
    outcome = {"stat_images": 3, "result_size": 1.5, "result_names": ["a", {"b": None}], "result_odd": float("nan")}
    table.complete(attempt, now=NOW + 1, outcome=outcome)
    table.complete(attempt, now=NOW + 2, outcome={})
    row = table.find("task-0001").task
    assert row.completed_at == NOW + 1
    kept = {key: value for key, value in row.extra.items() if key != "claimed_by"}
    assert kept == {**outcome, "result_size": Decimal("1.5"), "result_odd": "nan"}


@pytest.fixture
def engine_table(table: TaskTable, request: pytest.FixtureRequest) -> TaskTable:
    """Empty task tables on the real engine: the twin takes no conditions in batches."""
    if "twin" in request.node.callspec.id:
        pytest.skip("moto does not look at conditions in batches")
    return table


def both(table: TaskTable, done: Attempt, outcome: Any = None, following: Task | None = None) -> Moved:
    """Close an attempt and claim the first attempt of another task, task 2, in one call."""
    attempt = (following or make(2)).next_attempt
    return table.complete_and_claim(done, attempt, now=NOW, outcome=outcome or {}, claimer="me/1")


def test_one_call_closes_one_task_and_claims_another(engine_table: TaskTable) -> None:
    """Both rows are as after a close and a claim."""
    engine_table.write([make(1), make(2), make(3)])
    outcome = {"stat_images": 3, "result_size": 1.5, "result_names": ["a", {"b": None}], "result_select": "x"}
    moved = both(engine_table, claimed(engine_table, make(1)), outcome)
    assert moved.closed
    assert moved.claimed is not None
    by_itself = engine_table.claim(make(3).next_attempt, now=NOW, node="node")
    assert moved.claimed.extra == {"claimed_by": "me/1"}
    assert replace(moved.claimed, task_id="", payload="", extra={}) == replace(
        by_itself, task_id="", payload="", extra={}
    )
    assert moved.claimed == engine_table.find("task-0002").task
    closed = engine_table.find("task-0001").task
    assert closed.completed_at == NOW
    assert {name: closed.extra[name] for name in outcome} == {**outcome, "result_size": Decimal("1.5")}


def test_each_half_of_a_call_succeeds_by_itself(engine_table: TaskTable) -> None:
    """A task that somebody else claimed does not keep the other from being closed, and the other way round."""
    engine_table.write([make(number) for number in range(1, 5)])
    first = claimed(engine_table, make(1))
    engine_table.claim(make(2).next_attempt, now=NOW, node="other")
    assert both(engine_table, first) == Moved(True, None)
    assert engine_table.find("task-0002").task.extra["claimed_by"] != "me/1"
    moved = both(engine_table, Attempt(LABOURER, "task-0003", 1), following=make(4))
    assert (moved.closed, moved.claimed) == (False, engine_table.find("task-0004").task)
    assert engine_table.find("task-0003").task == make(3)


def test_a_call_whose_answer_was_lost_is_made_up_for(engine_table: TaskTable) -> None:
    """It is sent again and refused; then each half by itself finds that it was made."""
    engine_table.write([make(1), make(2)])
    first = claimed(engine_table, make(1))
    both(engine_table, first)
    assert both(engine_table, first) == Moved(False, None)
    engine_table.complete(first, now=NOW, outcome={})
    task = engine_table.claim(make(2).next_attempt, now=NOW, node="me", claimer="me/1")
    assert task == engine_table.find("task-0002").task


@pytest.mark.parametrize(
    "outcome",
    [{'stat_"': 1}, {f"stat_{number}": 1 for number in range(60)}],
    ids=["a name with a quotation mark", "many stats"],
)
def test_what_no_statement_can_say_is_left_to_two_calls(engine_table: TaskTable, outcome: Any) -> None:
    """Nothing is sent then."""
    engine_table.write([make(1), make(2)])
    first = claimed(engine_table, make(1))
    assert both(engine_table, first, outcome) == Moved(False, None)
    assert engine_table.find("task-0001").task.completed_at is None
    assert engine_table.find("task-0002").task == make(2)


@pytest.mark.parametrize(
    ("code", "of_each"),
    [
        *(("AccessDeniedException", False), ("UnknownOperationException", False), ("ValidationException", False)),
        *(("AccessDenied", True), ("ValidationError", True)),
    ],
)
def test_where_statements_are_not_allowed_they_are_sent_once(
    engine_table: TaskTable,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    code: str,
    of_each: bool,
) -> None:
    """A worker without the permission goes on with two calls for each task, and says so once."""
    asked = []
    error: Any = {"Error": {"Code": code, "Message": "no"}}

    def refuse(**request: Any) -> Any:
        asked.append(request)
        if of_each:
            return {"Responses": [error, error]}
        raise ClientError(error, "BatchExecuteStatement")

    engine_table.write([make(1), make(2)])
    monkeypatch.setattr(engine_table.client, "batch_execute_statement", refuse)
    first = claimed(engine_table, make(1))
    for _ in range(3):
        assert both(engine_table, first) == Moved(False, None)
    assert len(asked) == 1
    assert caplog.text.count("batches are refused") == 1


def test_one_refused_statement_keeps_no_others_from_being_sent(
    engine_table: TaskTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row may have grown too large to be closed."""
    engine_table.write([make(1), make(2)])
    first = claimed(engine_table, make(1))
    codes = "ValidationError", "ConditionalCheckFailed"
    answers = {"Responses": [{"Error": {"Code": code}} for code in codes]}
    with monkeypatch.context() as odd:
        odd.setattr(engine_table.client, "batch_execute_statement", lambda **_: answers)
        assert both(engine_table, first) == Moved(False, None)
    assert both(engine_table, first).closed


def test_two_attempts_of_one_task_are_no_batch(engine_table: TaskTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """DynamoDB takes a row once in each."""
    monkeypatch.setattr(engine_table.client, "batch_execute_statement", None)
    attempt = Attempt(LABOURER, "task-0001", 1)
    again = Attempt(LABOURER, "task-0001", 2)
    assert engine_table.complete_and_claim(attempt, again, now=NOW, outcome={}, claimer="me/1") == Moved(False, None)


def test_a_call_that_fails_for_now_is_tried_again_with_the_next(
    engine_table: TaskTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but a refusal for good keeps further ones from being sent."""

    def fail(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "slow"}}, "BatchExecuteStatement")

    engine_table.write([make(1), make(2)])
    first = claimed(engine_table, make(1))
    with monkeypatch.context() as slow:
        slow.setattr(engine_table.client, "batch_execute_statement", fail)
        assert both(engine_table, first) == Moved(False, None)
    assert both(engine_table, first).closed


def test_a_next_row_that_cannot_be_read_is_not_told_as_claimed(engine_table: TaskTable) -> None:
    """A claim by itself then says what is wrong with it."""
    engine_table.write([make(1), make(2)])
    engine_table.client.update_item(
        TableName=engine_table.tables.tasks,
        Key={engine_table.tables.field("task_id"): {"S": "task-0002"}},
        UpdateExpression="SET #payload = :n",
        ExpressionAttributeNames={"#payload": engine_table.tables.field("payload")},
        ExpressionAttributeValues={":n": {"N": "1"}},
    )
    assert both(engine_table, claimed(engine_table, make(1))) == Moved(True, None)
    with pytest.raises(ItemCorrupt):
        engine_table.claim(make(2).next_attempt, now=NOW, node="me", claimer="me/1")


def test_a_stale_attempt_can_neither_close_nor_fail_a_newer_one(table: TaskTable) -> None:
    """After a retry the first attempt has no say any more, neither before nor after the second one's claim."""
    table.write([make(1)])
    first = claimed(table, make(1))
    waiting = table.fail(first, Retry(0), FAILURE, now=NOW)
    with pytest.raises(TransitionRefused):
        table.complete(first, now=NOW, outcome={})
    assert table.requeue([waiting], now=NOW) == 1
    with pytest.raises(TransitionRefused):
        table.complete(first, now=NOW, outcome={})
    (queued,) = table.queued(LABOURER, now=NOW, start=None, limit=5)
    second = claimed(table, queued)
    assert second.number == 2
    for stale in (
        lambda: table.complete(first, now=NOW, outcome={}),
        lambda: table.fail(first, Dead(), FAILURE, now=NOW),
    ):
        with pytest.raises(TransitionRefused):
            stale()
    table.complete(second, now=NOW, outcome={})


def test_a_failed_task_waits_in_the_retry_table_with_its_error(table: TaskTable) -> None:
    """A failed attempt is in the retry table alone, due when it was told to be, and says why."""
    table.write([make(1)])
    table.fail(claimed(table, make(1)), Retry(30), FAILURE, now=NOW)
    found = table.find("task-0001", [LABOURER])
    assert found.where == "retry"
    assert found.task.desired_launch_time == NOW + 30
    assert (found.task.attempts, found.task.failed_attempts) == (1, 1)
    assert (found.task.extra["last_error"], found.task.extra["stat_tries"]) == ("ValueError: broken", 1)
    assert table.due(LABOURER, now=NOW + 29, limit=10) == ([], NOW + 30)
    assert [task.task_id for task in table.due(LABOURER, now=NOW + 30, limit=10)[0]] == ["task-0001"]
    assert table.count_waiting(LABOURER) == 1


def test_a_task_out_of_attempts_is_dead_and_counted_once(table: TaskTable) -> None:
    """A dead task is in the closed table alone with status 0, and its job counts it."""
    table.write([make(1)])
    attempt = claimed(table, make(1))
    table.fail(attempt, Dead(), FAILURE, now=NOW)
    with pytest.raises(TransitionRefused):
        table.fail(attempt, Dead(), FAILURE, now=NOW)
    found = table.find("task-0001")
    assert (found.where, found.dead) == ("closed", True)
    assert [task.task_id for task in table.closed(LABOURER, status=0)] == ["task-0001"]
    assert job_counts(table) == (0, 1)


def test_due_retries_go_to_the_head_of_the_queue_first_due_first(table: TaskTable) -> None:
    """Retried tasks stand before all others, in the order in which they were due."""
    table.write([make(number) for number in range(1, 5)])
    for number, delay in ((1, 20), (2, 10), (3, 99)):
        table.fail(claimed(table, make(number)), Retry(delay), FAILURE, now=NOW)
    due, next_due = table.due(LABOURER, now=NOW + 20, limit=10)
    assert next_due == NOW + 99
    assert table.requeue(due, now=NOW + 20) == 2
    assert table.requeue(due, now=NOW + 20) == 0
    queue = [task.task_id for task in table.queued(LABOURER, now=NOW + 20, start=None, limit=10)]
    assert queue == ["task-0002", "task-0001", "task-0004"]


def test_completed_tasks_are_archived_with_exact_counts(table: TaskTable) -> None:
    """Archiving moves each completed row once and adds it to its job once, however often it is tried."""
    tasks = [make(number, job_id=f"job-{number % 2}") for number in range(120)]
    table.write(tasks)
    for task in tasks:
        table.complete(claimed(table, task), now=NOW, outcome={"stat_n": 1})
    rows = list(table.running(LABOURER, now=NOW))
    assert table.archive(rows, now=NOW + 5) == 120
    assert table.archive(rows, now=NOW + 6) == 0
    assert job_counts(table, "job-0") == job_counts(table, "job-1") == (60, 0)
    assert list(table.running(LABOURER, now=NOW)) == []
    closed = {task.task_id: task for task in table.closed(LABOURER, status=1)}
    assert len(closed) == 120
    assert closed["task-0007"].payload == '{"n": 7}'
    assert closed["task-0007"].extra["stat_n"] == 1


def test_two_scavengers_archive_each_row_once(table: TaskTable) -> None:
    """Where another scavenger took a part of a batch, the rest is moved and counted."""
    tasks = [make(number) for number in range(10)]
    table.write(tasks)
    for task in tasks:
        table.complete(claimed(table, task), now=NOW, outcome={})
    rows = list(table.running(LABOURER, now=NOW))
    assert table.archive(rows[3:6], now=NOW) == 3
    assert table.archive(rows, now=NOW) == 7
    assert job_counts(table) == (10, 0)


def test_existing_finds_tasks_in_every_table(table: TaskTable) -> None:
    """A task counts as written wherever it is by now."""
    tasks = [make(number) for number in range(1, 5)]
    table.write(tasks)
    table.fail(claimed(table, tasks[1]), Retry(9), FAILURE, now=NOW)
    table.fail(claimed(table, tasks[2]), Dead(), FAILURE, now=NOW)
    claimed(table, tasks[3])
    ids = [task.task_id for task in tasks]
    assert table.existing(LABOURER, [*ids, "task-9999"]) == set(ids)


def test_a_row_that_cannot_be_read_is_set_aside_and_the_queue_goes_on(table: TaskTable) -> None:
    """A poisoned row ends in the closed table as dead with its reason; what is behind it is handed out."""
    poisoned = to_item(make(1), table.tables) | {table.tables.field("attempts"): {"S": "many"}}
    table.client.put_item(TableName=table.tables.tasks, Item=poisoned)
    table.write([make(2)])
    assert table.queued(LABOURER, now=NOW, start=None, limit=1) == [make(2)]
    key = {table.tables.field("task_id"): {"S": "task-0001"}}
    assert "Item" not in table.client.get_item(TableName=table.tables.tasks, Key=key)
    aside = table.client.get_item(TableName=table.tables.closed, Key=key)["Item"]
    assert aside[table.tables.field("labourer_id_task_status")] == {"S": "resize_0"}
    assert "task-0001" in aside["last_error"]["S"]
    assert job_counts(table) == (0, 1)


def test_the_tasks_closed_last_come_latest_first(table: TaskTable) -> None:
    """As many as asked for, completed and dead ones apart; a row that cannot be read is left out."""
    table.write([make(number) for number in range(4)])
    for number in range(4):
        table.complete(claimed(table, make(number)), now=NOW + 1, outcome={})
        table.archive(list(table.running(LABOURER, now=NOW + 1)), now=NOW + 2 + number)
    corrupt = archive_row(make(9), NOW + 99, status=1, tables=table.tables)
    corrupt[table.tables.field("attempts")] = {"S": "many"}
    table.client.put_item(TableName=table.tables.closed, Item=corrupt)

    def latest(limit: int) -> list[str]:
        return [task.task_id for task in table.recently_closed(LABOURER, status=1, limit=limit)]

    assert latest(99) == ["task-0003", "task-0002", "task-0001", "task-0000"]
    assert latest(3) == ["task-0003", "task-0002"]
    assert table.recently_closed(LABOURER, status=0, limit=3) == []


def test_a_task_that_no_table_holds_is_not_found(table: TaskTable) -> None:
    """Asking for an unknown task says so."""
    with pytest.raises(TaskNotFound, match="nobody"):
        table.find("nobody", [LABOURER])
