"""Rows changed by hand, messages that nobody of ours sent, and results that no table can hold as they are."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sosw_celery.config.settings import greenfield_delta, load_settings
from sosw_celery.core.celery_message import problem_of
from sosw_celery.core.jobs.plan import Envelope
from sosw_celery.core.node_liveness import Pulse
from sosw_celery.core.tasks.model import Attempt, Hint, Task
from sosw_celery.core.tasks.siblings import Sibling
from sosw_celery.errors import ItemCorrupt
from sosw_celery.services.attempts import Attempts, Outcome
from sosw_celery.services.hint_publisher import HintPublisher
from sosw_celery.services.siblings import Siblings
from sosw_celery.services.worker_assistant import InvalidAction, WorkerAssistant, closing_message
from sosw_celery.stores.dynamodb.attributes import value_to_attribute
from sosw_celery.stores.dynamodb.job_table import JobTable
from sosw_celery.stores.dynamodb.tables import Tables
from sosw_celery.stores.dynamodb.task_rows import close_request, from_item, to_item
from sosw_celery.stores.dynamodb.task_table import TaskTable
from sosw_celery.stores.redis.slots import Slots
from tests.fuzz.hostile import HOSTILE, QUICK, SCALAR, SLOW, UNSAYABLE, WORD, counted
from tests.harness.messenger import FakeMessenger

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

NOW = Decimal(1_795_392_000)
quick = settings(max_examples=QUICK, suppress_health_check=list(HealthCheck), deadline=None)
slow = settings(max_examples=SLOW, suppress_health_check=list(HealthCheck), deadline=None)

#: Fields of a row as ours have them.
ROW = to_item(
    Task(
        task_id="t",
        labourer_id="resize",
        greenfield=NOW,
        created_at=NOW,
        payload='{"a": 1}',
        job_id="j",
        attempts=1,
        failed_attempts=1,
        completed_at=NOW,
        desired_launch_time=NOW,
        extra={"stat_a": 1, "result_b": [1, {"c": None}]},
    ),
    Tables(),
)
NUMBER_TEXTS = ["0", "-1", "1.5", "1E+37", "9" * 38, "-" + "9" * 38, "0.000001", "1E-130", "1000000001"]
ATTRIBUTES = st.recursive(
    st.one_of(
        st.builds(lambda value: {"S": value}, WORD),
        st.builds(lambda value: {"N": value}, st.sampled_from(NUMBER_TEXTS) | st.integers(-(10**37), 10**37).map(str)),
        st.just({"NULL": True}),
        st.builds(lambda value: {"BOOL": value}, st.booleans()),
        st.builds(lambda value: {"B": value}, st.binary(max_size=5)),
        st.just({"SS": ["a", "b"]}),
        st.just({"NS": ["1", "2"]}),
    ),
    lambda inner: st.one_of(
        st.builds(lambda value: {"L": value}, st.lists(inner, max_size=3)),
        st.builds(lambda value: {"M": value}, st.dictionaries(WORD, inner, max_size=3)),
    ),
    max_leaves=6,
)


@quick
@given(st.dictionaries(st.sampled_from([*ROW, "closed_at", "arn", "x"]), ATTRIBUTES | st.none(), max_size=5))
def test_a_row_changed_by_hand_is_a_task_or_corrupt(changes: dict[str, Any]) -> None:
    """A row that can be read gives a task that can be handed out and written again; any other is told as corrupt."""
    counted("rows changed by hand")
    row = {name: value for name, value in {**ROW, **changes}.items() if value is not None}
    try:
        task = from_item(row, Tables())
    except ItemCorrupt:
        return
    hint = Hint(task.next_attempt)
    if _can_be_key(task.task_id) and _can_be_key(task.labourer_id):
        assert from_item(to_item(task, Tables()), Tables()).attempts == task.attempts
        # A hint that a worker drops as none would be sent again for ever.
        assert Hint.from_message(json.loads(json.dumps(hint.as_message()))) == hint


def _can_be_key(text: str) -> bool:
    """Whether DynamoDB could hold such a key: no row with another one reaches anybody."""
    return 0 < len(text.encode("utf-8", "replace")) <= 2048 and not any("\ud800" <= one <= "\udfff" for one in text)


CLAIMED = {"payload": "{}", "job_id": "j", "sibling_depth": 0}
HINTS = st.fixed_dictionaries(
    {},
    optional={
        "task_id": st.just("t") | HOSTILE,
        "labourer_id": st.just("resize") | HOSTILE,
        "attempt": st.just(1) | HOSTILE,
        "claimed": st.just(CLAIMED) | st.dictionaries(st.sampled_from(list(CLAIMED)), HOSTILE) | HOSTILE,
    },
)


@quick
@given(HINTS | HOSTILE)
def test_what_is_no_hint_is_taken_for_none(message: Any) -> None:
    """A message is a hint with usable keys and numbers, or none at all; nothing raises."""
    counted("messages for labourers")
    hint = Hint.from_message(message)
    if hint is not None:
        assert isinstance(hint.attempt.number, int)
        assert hint.attempt.number >= 1
        assert hint.attempt.task_id.encode()
        assert hint.attempt.labourer_id.encode()
        assert hint.task is None or (isinstance(hint.task.payload, str) and isinstance(hint.task.job_id, str))


@quick
@given(
    st.builds(
        lambda inner: {"sosw": inner},
        st.fixed_dictionaries(
            {"job_id": st.just("j") | HOSTILE, "part": st.none() | HOSTILE}, optional={"depth": HOSTILE, "x": SCALAR}
        )
        | HOSTILE,
    )
    | HOSTILE
)
def test_what_is_no_envelope_is_taken_for_none(message: Any) -> None:
    """A message for Schedulers is an envelope with a usable job id, or something else; nothing raises."""
    counted("messages for Schedulers")
    envelope = Envelope.from_message(message)
    if envelope is not None:
        assert envelope.job_id.encode()
        assert envelope.part is None or envelope.part >= 0
        assert envelope.depth >= 0


@quick
@given(st.dictionaries(st.sampled_from(["task_id", "payload", "depth"]), st.just("t") | HOSTILE) | HOSTILE)
def test_what_is_no_sibling_is_refused_without_its_content(message: Any) -> None:
    """The error says of what kind it is, not what it says."""
    counted("siblings in messages")
    with contextlib.suppress(_Short):
        assert isinstance(_short_or(ValueError, 200, lambda: Sibling.from_message(message)).payload, str)


class _Short(Exception):
    """An error of the expected kind, with a text of the expected length."""


def _short_or(kind: type[Exception], length: int, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except kind as problem:
        if len(str(problem)) < length:
            raise _Short from problem
        raise


@quick
@given(HOSTILE, HOSTILE)
def test_any_message_is_judged_before_celery_looks_into_it(headers: Any, payload: Any) -> None:
    """Whatever headers and body are, the check of the consumer has an answer."""
    counted("messages of any kind")
    assert str(problem_of(headers, payload)).startswith("expected")


@quick
@given(HOSTILE)
def test_no_file_of_a_pulse_breaks_the_probe(value: Any) -> None:
    """What stands in a file of a node is its pulse, or refused."""
    counted("pulses")
    try:
        text = json.dumps(value)
    except RecursionError:
        return
    with pytest.raises(ValueError, match=r"expected the pulse|Expecting|int_max_str_digits|surrogates"):
        Pulse.from_text(text)


@pytest.fixture(scope="module")
def task_table(dynamodb_client: DynamoDBClient, tables: Tables) -> TaskTable:
    """The task tables in the real engine."""
    delta = greenfield_delta(load_settings({}))
    counters = JobTable(dynamodb_client, tables).counters_update
    return TaskTable(dynamodb_client, tables, delta=delta, job_counters=counters, parallel=1)


@pytest.fixture(scope="module")
def assistant(task_table: TaskTable, slots_redis: redis.Redis) -> WorkerAssistant:
    """The assistant on real servers."""
    section = load_settings({"labourers": {"resize": {}}})
    messenger, slots = FakeMessenger(), Slots(slots_redis, prefix="fuzz")
    hints = HintPublisher(section, lambda: task_table, slots, messenger=messenger, node="node", clock=lambda: NOW)
    attempts = Attempts(
        section,
        task_table,
        slots,
        node="node",
        hints=hints,
        messenger=messenger,
        job_ended=lambda job_id: None,
        clock=lambda: NOW,
    )
    return WorkerAssistant(attempts, Siblings(section, task_table, messenger=messenger, clock=lambda: NOW))


def running(task_table: TaskTable) -> Attempt:
    """Return the attempt of a task that runs."""
    task = Task(uuid.uuid4().hex, "resize", greenfield=NOW - 1, created_at=NOW)
    task_table.write([task])
    return task_table.claim(task.next_attempt, now=NOW, node="n").current_attempt


RESULTS = st.dictionaries(WORD, HOSTILE | UNSAYABLE, max_size=5)


@slow
@given(results=RESULTS, many=st.sampled_from([0, 0, 0, 199, 200, 201, 1500]), by_message=st.booleans())
def test_any_result_can_be_recorded(
    task_table: TaskTable, assistant: WorkerAssistant, results: dict[str, Any], many: int, by_message: bool
) -> None:
    """Closing never fails for what a worker has found: the real engine takes every result, of any type and number.

    Directly, and by a message to the assistant, which JSON carries.
    """
    counted("results of workers")
    attempt = running(task_table)
    outcome = Outcome({number: number for number in range(many)}, results)
    if by_message:
        assistant.handle(json.loads(json.dumps(closing_message("mark_task_as_completed", attempt, outcome))))
    else:
        task_table.complete(attempt, now=NOW, outcome=outcome.attributes())
    closed = task_table.find(attempt.task_id).task
    assert closed.completed_at == NOW
    assert len(closed.extra) >= min(1, len(outcome.attributes()))


@slow
@given(results=RESULTS)
def test_any_raw_result_can_be_recorded(task_table: TaskTable, results: dict[str, Any]) -> None:
    """Nor does a close fail for what was not made storable before: what becomes an attribute is."""
    counted("results of workers")
    attempt = running(task_table)
    task_table.complete(attempt, now=NOW, outcome={f"result_{name}": value for name, value in results.items()})
    assert task_table.find(attempt.task_id).task.completed_at == NOW


@quick
@given(HOSTILE | UNSAYABLE)
def test_any_value_has_an_attribute(value: Any) -> None:
    """Of whatever type or depth a value is, there is one attribute for it, which JSON and UTF-8 can say."""
    counted("values for attributes")
    attribute = value_to_attribute(value)
    assert len(attribute) == 1
    if "B" not in str(attribute.keys()):
        json.dumps(attribute, default=str, ensure_ascii=False).encode()
    assert close_request(Attempt("l", "t", 1), NOW, NOW, {"result_x": value}, Tables())


@slow
@given(
    changes=st.dictionaries(
        st.sampled_from([*closing_message("mark_task_as_failed", Attempt("l", "t", 1), Outcome())]), HOSTILE, max_size=3
    ),
    action=st.sampled_from(["mark_task_as_completed", "mark_task_as_failed"]),
)
def test_the_assistant_closes_or_refuses(
    assistant: WorkerAssistant, task_table: TaskTable, changes: dict[str, Any], action: str
) -> None:
    """A closing message with faults is refused in words, or ends its attempt; no other error, and no half of it."""
    counted("closing messages")
    attempt = running(task_table)
    message = {**closing_message(action, attempt, Outcome({"a": 1}, {"b": 2})), **changes}
    with contextlib.suppress(_Short):
        _short_or(InvalidAction, 300, lambda: assistant.handle(message))
    where = task_table.find(attempt.task_id, ["resize"])
    assert where.where in ("tasks", "retry")


@quick
@given(HOSTILE)
def test_what_is_no_closing_message_is_refused(assistant: WorkerAssistant, message: Any) -> None:
    """Anything may stand on the assistant's queue."""
    counted("messages for the assistant")
    with pytest.raises(InvalidAction):
        assistant.handle(message)
