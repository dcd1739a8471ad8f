"""Rows that the engine refuses for what they hold: moved as far as they can be, and never in the others' way."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from sosw_celery.core.tasks.model import Attempt, Task
from sosw_celery.core.tasks.retrying import Dead, Retry
from sosw_celery.errors import StoreUnavailable
from sosw_celery.stores.dynamodb import task_rows
from sosw_celery.stores.dynamodb.alert_outbox import EVERYBODY, AlertOutbox
from sosw_celery.stores.dynamodb.item_size import DROPPED, MOST_BYTES, size_of
from sosw_celery.stores.dynamodb.job_table import SCHEDULING, JobTable
from sosw_celery.stores.dynamodb.tables import Tables, create_tables
from sosw_celery.stores.dynamodb.task_table import Failure, TaskTable

NOW = Decimal("1795392000.000001")
DELTA = Decimal(31_557_600)
LABOURER = "resize"
FAILURE = Failure("ValueError: broken", {"stat_tries": 1})


@pytest.fixture
def tables(table_prefix: str) -> Tables:
    """Names of tables of this test's own."""
    return Tables(
        tasks=f"{table_prefix}tasks",
        closed=f"{table_prefix}closed",
        retry=f"{table_prefix}retry",
        jobs=f"{table_prefix}jobs",
    )


@pytest.fixture
def outbox(dynamodb_client: Any, tables: Tables) -> AlertOutbox:
    """Who is to be told of deaths."""
    return AlertOutbox(dynamodb_client, tables)


@pytest.fixture
def table(dynamodb_client: Any, tables: Tables, outbox: AlertOutbox) -> TaskTable:
    """Empty task tables on the real engine, with the real counters of jobs."""
    create_tables(dynamodb_client, tables)
    counters = JobTable(dynamodb_client, tables).counters_update
    return TaskTable(
        dynamodb_client, tables, delta=DELTA, job_counters=counters, owe_notice=outbox.put_request, parallel=1
    )


def make(number: int, **fields: Any) -> Task:
    """Return a queued task."""
    fields = {"job_id": "job", "payload": "{}", **fields}
    return Task(
        task_id=f"task-{number:04d}",
        labourer_id=LABOURER,
        greenfield=NOW - 1000 + number,
        created_at=NOW - 1000,
        **fields,
    )


def claimed(table: TaskTable, task: Task) -> Attempt:
    """Write a task and claim it."""
    table.write([task])
    return table.claim(task.next_attempt, now=NOW, node="node").current_attempt


def completed(table: TaskTable, task: Task) -> None:
    """Write, claim and complete a task."""
    table.complete(claimed(table, task), now=NOW, outcome={"result_n": 1})


def row_of(table: TaskTable, name: str, **key: str) -> dict[str, Any]:
    """Return a row of one of the tables as it is; empty when there is none."""
    answer = table.client.get_item(TableName=name, Key={field: {"S": value} for field, value in key.items()})
    return dict(answer.get("Item", {}))


def count_of(table: TaskTable, job_id: str = "job") -> tuple[int, int]:
    """Return how many tasks the job counts as completed and as dead."""
    item = row_of(table, table.tables.jobs, job_id=job_id)
    return int(item["completed"]["N"]), int(item["dead"]["N"])


def running(table: TaskTable) -> list[Task]:
    """Return the claimed tasks."""
    return list(table.running(LABOURER, now=NOW))


def test_the_size_of_an_item_is_the_engines(table: TaskTable) -> None:
    """What counts as too large here is what the engine refuses, to within a few bytes."""
    row = task_rows.to_item(make(1), table.tables)
    row["payload"] = {"S": "x" * (MOST_BYTES - size_of(row) + 2)}
    assert size_of(row) == MOST_BYTES
    table.client.put_item(TableName=table.tables.tasks, Item=row)
    row["payload"]["S"] += "x" * 20
    with pytest.raises(table.client.exceptions.ClientError, match="Item size"):
        table.client.put_item(TableName=table.tables.tasks, Item=row)


@pytest.mark.parametrize("fat", ["result_table", "payload"])
def test_a_completed_row_that_is_nearly_too_large_is_archived_with_all_others(table: TaskTable, fat: str) -> None:
    """What the archive adds leaves out its largest attribute, and says so; the rest of the batch is as it was."""
    for number in range(30):
        completed(table, make(number))
    row = row_of(table, table.tables.tasks, task_id="task-0007")
    row[fat] = {"S": ""}
    row[fat] = {"S": "x" * (MOST_BYTES - size_of(row) - 50)}
    table.client.put_item(TableName=table.tables.tasks, Item=row)
    assert table.archive(running(table), now=NOW + 1) == 30
    assert running(table) == []
    assert count_of(table) == (30, 0)
    closed = {task.task_id: task for task in table.closed(LABOURER, status=1)}
    assert len(closed) == 30
    assert f"{fat} (40" in closed["task-0007"].extra[DROPPED]
    assert closed["task-0007"].extra["result_n"] == 1
    assert [name for name, task in closed.items() if DROPPED in task.extra] == ["task-0007"]


def test_a_large_result_gives_way_to_the_payload(table: TaskTable) -> None:
    """A payload can be tried again, so it is left out last, even where it is the largest."""
    task = make(1, payload="x" * 300_000, completed_at=NOW, extra={"result_table": "y" * 110_000})
    row = task_rows.archive_row(task, NOW, status=0, tables=table.tables)
    assert len(row["payload"]["S"]) == 300_000
    assert "result_table (110012 bytes)" in row[DROPPED]["S"]


def test_a_job_that_cannot_count_keeps_no_other_job_from_being_counted(table: TaskTable) -> None:
    """Rows of a job whose counter is no number are archived without being counted, those of others as ever."""
    item = {"job_id": {"S": "broken"}, "completed": {"S": "many"}}
    table.client.put_item(TableName=table.tables.jobs, Item=item)
    for number in range(20):
        completed(table, make(number, job_id="broken" if number in (3, 11) else "job"))
    assert table.archive(running(table), now=NOW + 1) == 20
    assert running(table) == []
    assert count_of(table) == (18, 0)
    assert len(list(table.closed(LABOURER, status=1))) == 20
    assert row_of(table, table.tables.jobs, job_id="broken") == item


def test_a_task_of_a_job_that_cannot_count_can_die(table: TaskTable, outbox: AlertOutbox) -> None:
    """Its end is written without the count; who wants to know of it is told."""
    table.client.put_item(TableName=table.tables.jobs, Item={"job_id": {"S": "job"}, "dead": {"S": "many"}})
    table.fail(claimed(table, make(1)), Dead(), FAILURE, now=NOW)
    assert table.find("task-0001").dead
    assert [death.task_id for death in outbox.owed(EVERYBODY, 9)] == ["task-0001"]


def test_a_task_whose_results_leave_no_room_for_its_retry_waits_without_them(table: TaskTable) -> None:
    """Its own fields stay, so that it can be tried again."""
    attempt = claimed(table, make(1, payload="x" * 200_000, extra={"note": "y" * 209_000}))
    table.fail(attempt, Retry(5), Failure("ValueError: " + "z" * 2000, {"stat_tries": 1}), now=NOW)
    (waiting,) = table.due(LABOURER, now=NOW + 5, limit=9)[0]
    assert len(waiting.payload) == 200_000
    assert "note (209004 bytes)" in waiting.extra[DROPPED]
    assert table.requeue([waiting], now=NOW + 5) == 1


def test_a_task_that_cannot_wait_is_dead(table: TaskTable) -> None:
    """A payload that leaves no room for the time of its retry: nobody of ours writes such a one."""
    task = make(1)
    row = task_rows.to_item(task, table.tables)
    row["payload"] = {"S": "x" * (MOST_BYTES - size_of(row) - 100)}
    table.client.put_item(TableName=table.tables.tasks, Item=row)
    attempt = table.claim(task.next_attempt, now=NOW, node="n").current_attempt
    failed = table.fail(attempt, Retry(5), FAILURE, now=NOW)
    assert failed.desired_launch_time is None
    found = table.find("task-0001")
    assert found.dead
    assert found.task.extra["last_error"] == "ValueError: broken"
    assert count_of(table) == (0, 1)


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        ("attempts", {"S": "many"}),
        ("attempts", {"S": "m" * 400_000}),
        ("completed_at", {"S": "soon"}),
        ("payload", {"N": "1"}),
    ],
)
@pytest.mark.parametrize("job_id", ["job", "j" * 2049, "a#b", "broken"])
def test_a_row_that_cannot_be_read_is_set_aside_whatever_it_holds(
    table: TaskTable, name: str, attribute: Any, job_id: str
) -> None:
    """Too large with the reason, or of a job that is none or cannot count: the queue goes on behind it."""
    table.client.put_item(
        TableName=table.tables.jobs, Item={"job_id": {"S": "broken"}, "completed": {"S": "x"}, "dead": {"S": "x"}}
    )
    row = task_rows.to_item(make(1), table.tables) | {name: attribute, "job_id": {"S": job_id}}
    row["note"] = {"S": "x" * max(0, MOST_BYTES - size_of(row) - 30)}
    table.client.put_item(TableName=table.tables.tasks, Item=row)
    table.write([make(2)])
    assert table.queued(LABOURER, now=NOW, start=None, limit=5) == [make(2)]
    assert row_of(table, table.tables.tasks, task_id="task-0001") == {}
    aside = row_of(table, table.tables.closed, task_id="task-0001")
    assert aside["labourer_id_task_status"] == {"S": "resize_0"}
    assert "reading the row of task task-0001" in aside["last_error"]["S"]
    if job_id == "job":
        assert count_of(table) == (0, 1)


def test_the_longest_id_does_not_keep_a_task_from_being_dead(table: TaskTable, outbox: AlertOutbox) -> None:
    """The word about it is cut; others are told of as they are."""
    long_id = "t" * 2048
    row = task_rows.to_item(replace(make(1), task_id=long_id), table.tables) | {"attempts": {"S": "many"}}
    table.client.put_item(TableName=table.tables.tasks, Item=row)
    assert table.queued(LABOURER, now=NOW, start=None, limit=5) == []
    assert row_of(table, table.tables.closed, task_id=long_id)["labourer_id_task_status"] == {"S": "resize_0"}
    (death,) = outbox.owed(EVERYBODY, 9)
    assert long_id.startswith(death.task_id)
    outbox.owe("anna", [death, replace(death, task_id=long_id[:-1] + "u")], NOW)
    (hers,) = outbox.owed("anna", 9)
    assert long_id.startswith(hers.task_id)
    for whom, owed in ((EVERYBODY, death), ("anna", hers)):
        outbox.settle(whom, [owed])
        assert outbox.owed(whom, 9) == []


@pytest.mark.parametrize("due", ["1795392000000000000", "1e16"])
def test_a_retry_that_is_due_never_is_set_aside_and_the_others_come_back(table: TaskTable, due: str) -> None:
    """A row whose due time is beyond all times, which was stored once, stops nobody."""
    for number in (1, 2):
        table.fail(claimed(table, make(number)), Retry(10 * number), FAILURE, now=NOW)
    absurd = task_rows.to_item(make(3), table.tables) | {"desired_launch_time": {"N": due}}
    table.client.put_item(TableName=table.tables.retry, Item=absurd)
    waiting, next_due = table.due(LABOURER, now=NOW + 10, limit=9)
    assert ([task.task_id for task in waiting], next_due) == (["task-0001"], NOW + 20)
    table.requeue(waiting, now=NOW + 10)
    waiting, next_due = table.due(LABOURER, now=NOW + 20, limit=9)
    assert ([task.task_id for task in waiting], next_due) == (["task-0002"], None)
    assert row_of(table, table.tables.retry, labourer_id=LABOURER, task_id="task-0003") == {}
    found = row_of(table, table.tables.closed, task_id="task-0003")
    assert found["labourer_id_task_status"] == {"S": "resize_0"}
    assert "expected seconds" in found["last_error"]["S"]
    assert count_of(table) == (0, 1)


def test_an_unreadable_retry_that_is_due_first_stops_nobody(table: TaskTable) -> None:
    """It is set aside, and the one behind it is found in the same look."""
    table.fail(claimed(table, make(1)), Retry(10), FAILURE, now=NOW)
    corrupt = task_rows.to_item(replace(make(2), desired_launch_time=NOW), table.tables) | {"attempts": {"S": "many"}}
    table.client.put_item(TableName=table.tables.retry, Item=corrupt)
    assert [task.task_id for task in table.due(LABOURER, now=NOW + 10, limit=9)[0]] == ["task-0001"]
    assert row_of(table, table.tables.closed, task_id="task-0002")["attempts"] == {"S": "many"}


def test_a_row_that_cannot_be_set_aside_for_now_stops_nobody(
    table: TaskTable, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It stays for the next look; what is behind it is handed out."""
    row = task_rows.to_item(make(1), table.tables) | {"attempts": {"S": "many"}}
    table.client.put_item(TableName=table.tables.tasks, Item=row)
    table.write([make(2)])

    def throttled(*_: Any) -> None:
        raise StoreUnavailable("dynamodb", "set aside", "ThrottlingException")

    with monkeypatch.context() as slow:
        slow.setattr(table, "_transact", throttled)
        assert table.queued(LABOURER, now=NOW, start=None, limit=1) == [make(2)]
    assert "is not set aside for now" in caplog.text
    assert table.queued(LABOURER, now=NOW, start=None, limit=1) == [make(2)]
    assert row_of(table, table.tables.tasks, task_id="task-0001") == {}


def test_all_due_retries_are_read_however_large_they_are(table: TaskTable) -> None:
    """Sixty of 100 KB are six pages of 1 MB; the next one that is due is told as well."""
    for number in range(1, 62):
        waiting = replace(make(number, payload="x" * 100_000), attempts=1, desired_launch_time=NOW + number)
        table.client.put_item(TableName=table.tables.retry, Item=task_rows.to_item(waiting, table.tables))
    due, next_due = table.due(LABOURER, now=NOW + 60, limit=200)
    assert [task.task_id for task in due] == [make(number).task_id for number in range(1, 61)]
    assert next_due == NOW + 61
    due, next_due = table.due(LABOURER, now=NOW + 60, limit=7)
    assert ([task.task_id for task in due][-1], len(due), next_due) == ("task-0007", 7, NOW + 8)


def test_waiting_retries_are_read_consistently(table: TaskTable) -> None:
    """What was written before the look is in it."""
    asked = calls_of(table, "Query")
    table.due(LABOURER, now=NOW, limit=9)
    assert [call["ConsistentRead"] for call in asked] == [True]


def calls_of(table: TaskTable, operation: str) -> list[dict[str, Any]]:
    """Return a list that takes the parameters of each such call from now on."""
    calls: list[dict[str, Any]] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        calls.append(dict(params))

    table.client.meta.events.register(f"provide-client-params.dynamodb.{operation}", note)
    return calls


def test_retries_keep_the_order_in_which_they_fall_due_over_all_batches(table: TaskTable) -> None:
    """A batch that is put back later comes behind the one before it, all before the queue; no read is needed."""
    table.write([make(0)])
    for number, delay in ((1, 30), (2, 10), (3, 20), (4, 5)):
        table.fail(claimed(table, make(number)), Retry(delay), FAILURE, now=NOW)
    reads = calls_of(table, "Query")
    for at in (5, 20, 30):
        due, _ = table.due(LABOURER, now=NOW + at, limit=9)
        reads.clear()
        table.requeue(due, now=NOW + at)
        assert reads == []
    queue = [task.task_id for task in table.queued(LABOURER, now=NOW + 30, start=None, limit=9)]
    assert queue == ["task-0004", "task-0002", "task-0003", "task-0001", "task-0000"]
    place = table.queued(LABOURER, now=NOW + 30, start=None, limit=1)[0].greenfield
    assert place == NOW + 5 - 315_576_000


def test_a_retry_that_says_by_no_number_that_it_was_never_attempted_comes_back(table: TaskTable) -> None:
    """Somebody else wrote it; it is in the others' way no more."""
    row = task_rows.to_item(replace(make(1), desired_launch_time=NOW), table.tables)
    del row["attempts"]
    table.client.put_item(TableName=table.tables.retry, Item=row)
    due, _ = table.due(LABOURER, now=NOW, limit=9)
    assert (table.requeue(due, now=NOW), table.requeue(due, now=NOW)) == (1, 0)
    assert table.due(LABOURER, now=NOW, limit=9) == ([], None)


def test_a_retry_of_a_task_that_is_in_the_queue_again_is_forgotten(table: TaskTable) -> None:
    """It could never come back; the task is done by its row in the queue."""
    table.fail(claimed(table, make(1)), Retry(0), FAILURE, now=NOW)
    table.write([make(1)])
    due, _ = table.due(LABOURER, now=NOW, limit=9)
    assert table.requeue(due, now=NOW) == 0
    assert table.due(LABOURER, now=NOW, limit=9) == ([], None)
    assert table.queued(LABOURER, now=NOW, start=None, limit=9) == [make(1)]


def test_a_retry_that_fails_stops_no_other_one(table: TaskTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others come back, and then the error is raised."""
    for number in (1, 2, 3):
        table.fail(claimed(table, make(number)), Retry(0), FAILURE, now=NOW)
    due, _ = table.due(LABOURER, now=NOW, limit=9)
    whole: Callable[..., bool] = table._requeue

    def requeue(task: Task, now: Decimal) -> bool:
        if task.task_id == "task-0002":
            raise RuntimeError("odd")
        return whole(task, now)

    monkeypatch.setattr(table, "_requeue", requeue)
    with pytest.raises(RuntimeError, match="odd"):
        table.requeue(due, now=NOW)
    assert [task.task_id for task in table.due(LABOURER, now=NOW, limit=9)[0]] == ["task-0002"]


def test_a_completed_row_without_a_number_of_attempts_is_archived(table: TaskTable) -> None:
    """Somebody else wrote it; it would be read by every sweep for ever."""
    row = task_rows.to_item(replace(make(1), greenfield=NOW + DELTA, completed_at=NOW), table.tables)
    del row["attempts"]
    table.client.put_item(TableName=table.tables.tasks, Item=row)
    assert table.archive(running(table), now=NOW) == 1
    assert running(table) == []


def test_closed_rows_that_cannot_be_read_are_left_out(table: TaskTable) -> None:
    """A look at what was closed ends at none of them."""
    for number in (1, 2, 3):
        row = task_rows.archive_row(make(number), NOW + number, status=0, tables=table.tables)
        if number == 2:
            row["attempts"] = {"S": "many"}
        table.client.put_item(TableName=table.tables.closed, Item=row)
    assert [task.task_id for task in table.closed(LABOURER, status=0)] == ["task-0001", "task-0003"]


def test_a_place_of_another_table_is_the_beginning(table: TaskTable) -> None:
    """Jobs are looked at all the same."""
    jobs = JobTable(table.client, table.tables)
    jobs.accept("job", {"lambda_name": LABOURER}, LABOURER, NOW, datetime.date(2026, 11, 23))
    assert jobs.unfinished_from('{"other": {"S": "key"}}', 9, stage=SCHEDULING) == (["job"], "")
