"""The history's buffer: what comes in is written once, in few requests, and nobody waits or fails for it."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import boto3
import moto
import pytest

from sosw_celery.config.settings import load_settings
from sosw_celery.core.tasks.history import Action, Origin
from sosw_celery.core.tasks.model import Attempt, Task
from sosw_celery.core.tasks.retrying import Dead, Retry
from sosw_celery.errors import StoreError, StoreUnavailable, TransitionRefused
from sosw_celery.services.history import MetaHandler, OwnMeta
from sosw_celery.stores.dynamodb.history_table import HistoryTable
from sosw_celery.stores.dynamodb.tables import Tables, create_tables
from sosw_celery.stores.dynamodb.task_table import Failure, TaskTable
from tests.harness.waiting import wait_for

NOW = Decimal("1795392000.000001")
ORIGIN = Origin("resize", "message-1", "node-1")
ATTEMPT = Attempt("resize", "task-1", 2)


class Recorder:
    """Stands where the table does: keeps each request, and answers as the test says."""

    def __init__(self) -> None:
        self.requests: list[list[dict[str, Any]]] = []
        self.answer: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = lambda rows: []
        self.is_open = threading.Event()
        self.is_open.set()

    def write(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Keep a request, once the test lets it through."""
        self.is_open.wait(10)
        self.requests.append(list(rows))
        return self.answer(rows)

    @property
    def actions(self) -> list[str]:
        """The actions of all rows, in the order of writing."""
        return [row["action"]["S"] for rows in self.requests for row in rows]


def handler_on(table: Any, **config: Any) -> MetaHandler:
    """Return a handler with this `meta_handler_config`."""
    settings = load_settings({"meta_handler_config": {"flush_s": 0.05, **config}})
    return MetaHandler(settings.meta_handler_config, table=lambda: table, origin=lambda: ORIGIN, clock=lambda: NOW)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """A table that keeps what is written; no writer is left waiting at it."""
    recorder = Recorder()
    yield recorder
    recorder.is_open.set()


def test_an_event_is_written_with_who_what_and_when(recorder: Recorder) -> None:
    """The row has sosw's fields, the labourer and the attempt, and what was noted beside it."""
    handler = handler_on(recorder)
    handler.observe(Action.FAILED, [ATTEMPT], NOW, error="ValueError: no")
    assert handler.flush()
    ((row,),) = recorder.requests
    stamp = row.pop("created_at")["N"]
    assert stamp.startswith("1795392000.000001")
    assert row == {
        "task_id": {"S": "task-1"},
        "action": {"S": "failed"},
        "author": {"S": "resize"},
        "invocation_id": {"S": "message-1"},
        "log_stream_name": {"S": "node-1"},
        "labourer_id": {"S": "resize"},
        "attempts": {"N": "2"},
        "error": {"S": "ValueError: no"},
    }


def test_events_of_one_microsecond_have_times_of_their_own_in_their_order(recorder: Recorder) -> None:
    """Many events at one time, from many threads: none has the key of another, and each thread's are in order."""
    handler = handler_on(recorder)

    def note(name: str) -> None:
        for number in range(200):
            handler.post("task-1", f"{name} {number}")

    threads = [threading.Thread(target=note, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert handler.flush()
    rows = [row for request in recorder.requests for row in request]
    stamps = {row["action"]["S"]: Decimal(row["created_at"]["N"]) for row in rows}
    assert len(rows) == len(set(stamps.values())) == 800
    for name in "abcd":
        own = [stamps[f"{name} {number}"] for number in range(200)]
        assert own == sorted(own)
    other = handler_on(recorder)
    other.post("task-1", "of another process")
    assert other.flush()
    assert Decimal(recorder.requests[-1][0]["created_at"]["N"]) not in stamps.values()


def test_events_are_written_by_25_and_a_few_after_a_while(recorder: Recorder) -> None:
    """A full request goes out at once, whatever is left within `flush_s`, without anybody asking for it."""
    handler = handler_on(recorder, flush_s=0.3)
    for number in range(26):
        handler.post("task-1", f"{number}")
    wait_for(lambda: recorder.requests, 10, "requests")
    assert len(recorder.requests[0]) == 25
    assert len(recorder.actions) == 25
    wait_for(lambda: len(recorder.actions) == 26, 10, "actions")


def test_a_table_that_hangs_holds_nobody_up_and_the_oldest_events_give_way(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """While no request ends, posting goes on at once; the newest events are kept, and the lost ones are counted."""
    recorder.is_open.clear()
    handler = handler_on(recorder, buffer_events=100)
    before = time.monotonic()
    for number in range(1000):
        handler.post("task-1", f"{number}")
    assert time.monotonic() - before < 2
    with caplog.at_level(logging.WARNING):
        recorder.is_open.set()
        assert handler.flush()
        wait_for(lambda: "events dropped" in caplog.text, 10, "the warning")
    written = [int(action) for action in recorder.actions]
    assert set(range(900, 1000)) <= set(written)
    assert f"{1000 - len(written)} events dropped" in caplog.text


def test_events_are_written_once_the_store_answers_again(recorder: Recorder) -> None:
    """An outage, and rows that the store had no capacity for: both are tried again, none is written twice over."""
    answers: list[Any] = [StoreUnavailable("dynamodb", "BatchWriteItem"), lambda rows: rows[1:], lambda rows: []]

    def answer(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        now = answers.pop(0)
        if isinstance(now, Exception):
            raise now
        left: list[dict[str, Any]] = now(rows)
        return left

    recorder.answer = answer
    handler = handler_on(recorder)
    for name in "abc":
        handler.post("task-1", name)
    assert handler.flush()
    assert recorder.actions == ["a", "b", "c", "a", "b", "c", "b", "c"]


def test_a_row_that_the_store_refuses_takes_no_other_with_it(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """A row that is too large is lost, with a warning; those of the same request are written."""

    def answer(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if any(row["action"]["S"] == "huge" for row in rows):
            raise StoreError("dynamodb", "BatchWriteItem", "ValidationException")
        return []

    recorder.answer = answer
    handler = handler_on(recorder)
    for name in ("small", "huge", "neat"):
        handler.post("task-1", name)
    assert handler.flush()
    assert recorder.requests[1:] == [[row] for row in recorder.requests[0]]
    assert "1 events lost" in caplog.text


def test_a_table_that_is_missing_is_a_warning_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    """Neither posting nor observing fails, whatever the store says or however the handler itself breaks."""
    with moto.mock_aws():
        handler = handler_on(HistoryTable(boto3.client("dynamodb", region_name="eu-west-1"), "nowhere"))
        handler.post("task-1", "posted")
        assert handler.flush()
        assert "1 events lost: dynamodb: BatchWriteItem failed (ResourceNotFoundException)" in caplog.text
    broken = MetaHandler(load_settings({"meta_handler_config": {}}).meta_handler_config, **BROKEN)
    broken.observe(Action.INVOKED, [ATTEMPT], NOW)
    assert "invoked not noted" in caplog.text


def _breaks() -> Any:
    raise RuntimeError("broken")


BROKEN: dict[str, Any] = {"table": _breaks, "origin": _breaks, "clock": _breaks}


def test_without_configuration_nothing_is_kept_and_nothing_is_started() -> None:
    """Off: no table is asked for, no thread begins, and code of sosw that asks for the handler finds it false."""
    handler = MetaHandler(None, **BROKEN)
    handler.post("task-1", "posted")
    assert not handler
    assert not OwnMeta(handler, ATTEMPT)
    assert handler.flush()


def test_events_may_go_to_the_log_instead(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    """`write_meta_to_ddb: False`, as in sosw."""
    handler = handler_on(recorder, write_meta_to_ddb=False)
    with caplog.at_level(logging.INFO):
        handler.post("task-1", "posted")
    assert handler.flush()
    assert recorder.requests == []
    assert "history: posted" in caplog.text


def test_a_field_has_the_type_that_row_mapper_states_and_required_ones_are_asked_for(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """sosw's `dynamo_db_config` of the history."""
    table = {"row_mapper": {"size": "N", "port": "S"}, "required_fields": ["task_id", "size"]}
    handler = handler_on(recorder, dynamo_db_config=table)
    handler.post("task-1", "posted", size="12", port=80)
    handler.post("task-1", "posted without")
    assert handler.flush()
    ((row,),) = recorder.requests
    assert (row["size"], row["port"]) == ({"N": "12"}, {"S": "80"})
    assert "1 events without a field of required_fields dropped" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "fields", "problem"),
    [
        (("", "posted"), {}, "task_id and an action"),
        (("task-1", ""), {}, "task_id and an action"),
        (("task-1", "posted"), {"author": "me"}, "author: filled in"),
        (("task-1", "posted"), {"created_at": 3}, "created_at: filled in"),
    ],
)
@pytest.mark.parametrize("is_on", [True, False])
def test_a_wrong_call_is_an_error_whether_history_is_kept_or_not(
    recorder: Recorder, arguments: tuple[str, str], fields: dict[str, Any], problem: str, is_on: bool
) -> None:
    """So it shows in the first test of a worker, not on the day when the history is switched on."""
    handler = handler_on(recorder) if is_on else MetaHandler(None, **BROKEN)
    with pytest.raises(ValueError, match=problem):
        handler.post(*arguments, **fields)


def test_a_worker_posts_about_its_own_task_or_another(recorder: Recorder) -> None:
    """Without a task id it is the running one, with its labourer and attempt; sosw's two arguments work as well."""
    handler = handler_on(recorder)
    own = OwnMeta(handler, ATTEMPT)
    assert own
    own.post(action="mine", size=3)
    own.post("task-1", "mine too")
    own.post(task_id="task-9", action="another's")
    assert handler.flush()
    rows = {row["action"]["S"]: row for request in recorder.requests for row in request}
    assert {name: row["task_id"]["S"] for name, row in rows.items()} == {
        "mine": "task-1",
        "mine too": "task-1",
        "another's": "task-9",
    }
    assert rows["mine"]["size"] == {"N": "3"}
    assert [rows[name].get("attempts") for name in rows] == [{"N": "2"}, {"N": "2"}, None]


def test_outside_of_a_worker_process_posting_checks_and_keeps_nothing() -> None:
    """As in the unit test of a labourer."""
    own = OwnMeta(None, None)
    own.post(action="posted")
    assert not own
    with pytest.raises(ValueError, match="action"):
        own.post()


def test_a_forked_child_writes_nothing_of_its_parent(recorder: Recorder) -> None:
    """What waits at the fork is the parent's to write; the child's end neither hangs nor writes it."""
    recorder.is_open.clear()
    handler = handler_on(recorder)
    handler.post("task-1", "of the parent")
    child = os.fork()
    if child == 0:
        os._exit(0 if handler.flush() and not recorder.requests else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    recorder.is_open.set()
    assert handler.flush()
    assert recorder.actions == ["of the parent"]


def test_the_task_table_tells_of_every_move_after_it_was_made() -> None:
    """Each move of a task's life is one event, refused ones none, a late close its own."""
    told: list[tuple[str, str, dict[str, Any]]] = []

    def observe(action: Action, tasks: Any, at: Decimal, **fields: Any) -> None:
        assert at == NOW
        told.extend((action.value, task.task_id, fields) for task in tasks)

    with moto.mock_aws():
        client = boto3.client("dynamodb", region_name="eu-west-1")
        create_tables(client, Tables())
        table = TaskTable(
            client, Tables(), delta=Decimal(31_557_600), job_counters=_no_job, parallel=1, observe=observe
        )
        _live(table)
    assert [(action, task_id) for action, task_id, _ in told] == [
        ("invoked", "a"),
        ("completed", "a"),
        ("closed_late", "a"),
        ("archived", "a"),
        ("invoked", "b"),
        ("failed", "b"),
        ("scheduled_for_retry", "b"),
        ("ready_for_retry", "b"),
        ("invoked", "b"),
        ("failed", "b"),
        ("archived_dead", "b"),
    ]
    assert told[2][2] == {"found": "completed by attempt 1"}
    assert told[5][2] == {"error": "ValueError: no"}
    assert told[6][2] == {"desired_launch_time": NOW}


def _no_job(*_: Any) -> dict[str, Any]:
    raise AssertionError("these tasks belong to no job")


def _live(table: TaskTable) -> None:
    """One task completes, and is closed again too late; one fails twice and is dead."""

    table.write([Task(name, "resize", NOW - 1, NOW - 1) for name in "ab"])
    first = table.claim(Attempt("resize", "a", 1), now=NOW, node="n")
    with pytest.raises(TransitionRefused):
        table.claim(Attempt("resize", "a", 1), now=NOW, node="m")
    table.complete(first.current_attempt, now=NOW, outcome={})
    with pytest.raises(TransitionRefused):
        table.complete(Attempt("resize", "a", 2), now=NOW, outcome={})
    done = table.find("a").task
    assert (table.archive([done], now=NOW), table.archive([done], now=NOW)) == (1, 0)
    table.claim(Attempt("resize", "b", 1), now=NOW, node="n")
    failed = table.fail(Attempt("resize", "b", 1), Retry(0), Failure("ValueError: no", {}), now=NOW)
    assert (table.requeue([failed], now=NOW), table.requeue([failed], now=NOW)) == (1, 0)
    table.claim(Attempt("resize", "b", 2), now=NOW, node="n")
    table.fail(Attempt("resize", "b", 2), Dead(), Failure("ValueError: no", {}), now=NOW)
