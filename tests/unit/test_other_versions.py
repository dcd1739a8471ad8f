"""What another version wrote is read: while a system is upgraded node by node, both write and both read.

At each door: a key that this version does not know changes nothing, and an optional one that is not there has its
default. What may not be missing is told as before.
"""

from __future__ import annotations

import datetime
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, replace
from decimal import Decimal
from typing import Any, NamedTuple

import boto3
import fakeredis
import pytest
from moto import mock_aws

from sosw_celery import app
from sosw_celery.cli.health import _row
from sosw_celery.core.jobs.plan import Envelope
from sosw_celery.core.node_liveness import Pulse
from sosw_celery.core.tasks.model import DEPTH, Attempt, Hint, Task
from sosw_celery.core.tasks.siblings import Sibling
from sosw_celery.names import DISPATCH, QUEUES, SCHEDULER, SWEEP, WORKER_ASSISTANT
from sosw_celery.services.attempts import Outcome
from sosw_celery.services.worker_assistant import COMPLETED, WorkerAssistant, closing_message
from sosw_celery.stores.dynamodb.job_table import JobTable
from sosw_celery.stores.dynamodb.tables import Tables, create_tables
from sosw_celery.stores.dynamodb.task_rows import from_item, to_item
from sosw_celery.stores.redis.node_registry import NodeNote, NodeRegistry

ATTEMPT = Attempt("resize", "t", 2)
ROW = Task("t", "resize", Decimal(1), Decimal(1), payload='{"a": 1}', job_id="j", attempts=2, extra={DEPTH: 3})
SIBLING = Sibling("s", "{}", 4)
PULSE = Pulse("resize@host", 7, ("resize",), 4, 1, 12, 9.0, 8.0, 7.0, 20.0, 5.0, 6.0, {"resize": 1.0}, True)
UNKNOWN = {"of_a_later_version": {"n": [1, "a"]}}


class Door(NamedTuple):
    """A place where something is read that another process wrote.

    Parameters:
        written: As this version writes it, every key stated.
        read: Returns what is made of it.
        defaults: Optional keys, and what is read where one is missing.
    """

    written: Mapping[str, Any]
    read: Callable[[Any], Any]
    defaults: Mapping[str, Any] = {}


def optional(kind: Any) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a dataclass that need not be stated, with their defaults."""
    for one in fields(kind):
        if one.default is not MISSING:
            yield one.name, one.default
        elif one.default_factory is not MISSING:
            yield one.name, one.default_factory()


class Recorder:
    """Stands for the services behind the assistant: what they are asked for."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def complete(self, attempt: Attempt, outcome: Outcome, **options: Any) -> None:
        """Note a close."""
        self.asked.append((attempt, dict(outcome.attributes()), options))

    def spawn(self, attempt: Attempt, job_id: str, sibling: Sibling) -> None:
        """Note a sibling."""
        self.asked.append((attempt, job_id, sibling))


def closed(message: Any) -> Any:
    """Return what the assistant does on account of a closing message."""
    recorder: Any = Recorder()
    WorkerAssistant(recorder, recorder).handle(message)
    return recorder.asked


def claimed(inner: Any) -> Any:
    """Return the hint with this claimed task in it."""
    return Hint.from_message({**Hint(ATTEMPT).as_message(), "claimed": inner})


def claimed_row(**changes: Any) -> Hint:
    """Return the hint as it is read, whose task differs in something."""
    read = replace(ROW, greenfield=Decimal(0), created_at=Decimal(0))
    return Hint(ATTEMPT, replace(read, **changes))


def shown(note: Any) -> Any:
    """Return what people see of a node's note; an age is not told."""
    nodes = NodeRegistry(fakeredis.FakeRedis(), prefix="sosw")
    nodes.put("resize@host", note)
    (found,) = nodes.all()
    return _row(NodeNote(found.node, 0.0, found.note))


HINT = Hint(ATTEMPT, ROW).as_message()
CLOSING = closing_message(COMPLETED, ATTEMPT, Outcome({"n": 1}, {"r": 2}), job_id="j", siblings=[SIBLING])
OPTIONS = {"keep_slot": False}
CLOSE = (ATTEMPT, {"stat_n": 1, "result_r": 2}, OPTIONS)
#: As whoever else sends it, and workers did before.
PLAIN_CLOSING = {**CLOSING, "stats": {"n": 1}, "result": {"r": 2}}
del PLAIN_CLOSING["outcome"]
SPAWN = (ATTEMPT, "j", SIBLING)
NOTE = {"queues": ["resize"], "capacity": 4, "busy": 1, "accepted": 12, "is_stopping": True, "problems": []}
SEEN = ("resize@host", "resize", "1/4", 12, "0 s ago", "stopping")

DOORS = {
    "hint": Door(HINT, Hint.from_message, {"claimed": Hint(ATTEMPT)}),
    "claimed task in a hint": Door(
        HINT["claimed"], claimed, {"job_id": claimed_row(job_id=""), DEPTH: claimed_row(extra={})}
    ),
    "envelope": Door({"sosw": {"job_id": "j", "part": 1, "depth": 2}}, Envelope.from_message),
    "inside of an envelope": Door(
        {"job_id": "j", "part": 1, "depth": 2},
        lambda inner: Envelope.from_message({"sosw": inner}),
        {"part": Envelope("j", None, 2), "depth": Envelope("j", 1, 0)},
    ),
    "sibling": Door(SIBLING.as_message(), Sibling.from_message, {"depth": SIBLING._replace(depth=1)}),
    "closing message": Door(
        CLOSING,
        closed,
        {
            "outcome": [SPAWN, (ATTEMPT, {}, OPTIONS)],
            "siblings": [CLOSE],
            "keep_slot": [SPAWN, CLOSE],
            "error": [SPAWN, CLOSE],
            "delay_s": [SPAWN, CLOSE],
            "job_id": [(ATTEMPT, "", SIBLING), CLOSE],
        },
    ),
    "closing message with stats and result": Door(
        PLAIN_CLOSING,
        closed,
        {
            "stats": [SPAWN, (ATTEMPT, {"result_r": 2}, OPTIONS)],
            "result": [SPAWN, (ATTEMPT, {"stat_n": 1}, OPTIONS)],
            "siblings": [CLOSE],
            "keep_slot": [SPAWN, CLOSE],
            "error": [SPAWN, CLOSE],
            "delay_s": [SPAWN, CLOSE],
            "job_id": [(ATTEMPT, "", SIBLING), CLOSE],
        },
    ),
    "pulse of a node": Door(
        json.loads(PULSE.as_text()),
        lambda found: Pulse.from_text(json.dumps(found)),
        {name: replace(PULSE, **{name: default}) for name, default in optional(Pulse)},
    ),
    "note of a node": Door(
        NOTE,
        shown,
        {
            "queues": ("resize@host", "", "1/4", 12, "0 s ago", "stopping"),
            "capacity": ("resize@host", "resize", "1/?", 12, "0 s ago", "stopping"),
            "busy": ("resize@host", "resize", "?/4", 12, "0 s ago", "stopping"),
            "accepted": ("resize@host", "resize", "1/4", "?", "0 s ago", "stopping"),
            "is_stopping": ("resize@host", "resize", "1/4", 12, "0 s ago", "-"),
            "problems": SEEN,
        },
    ),
    "queues that a node serves": Door(
        {**NOTE, "is_stopping": False, "heartbeat_s": 2.0},
        lambda note: list(NodeNote("resize@host", 0.0, note).serves),
        {"queues": [], "is_stopping": ["resize"], "heartbeat_s": ["resize"]},
    ),
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_a_key_that_is_not_known_changes_nothing(door: Door) -> None:
    """A later version may say more."""
    assert door.read(dict(door.written)) is not None
    assert door.read({**door.written, **UNKNOWN}) == door.read(dict(door.written))


@pytest.mark.parametrize(
    ("door", "key"), [(name, key) for name, door in DOORS.items() for key in door.defaults], ids=str
)
def test_an_optional_key_that_is_missing_has_its_default(door: str, key: str) -> None:
    """An earlier version says less, and a later one may say it otherwise."""
    written, read, defaults = DOORS[door]
    assert read({name: value for name, value in written.items() if name != key}) == defaults[key]


#: Of the tasks of the system: the arguments that each message has, whichever version sent it.
NEEDED: dict[str, tuple[Any, ...]] = {DISPATCH: ("resize",), SWEEP: ("resize",), WORKER_ASSISTANT: ({},)}


@pytest.mark.parametrize("name", [name for name in QUEUES if name != SCHEDULER])
def test_a_message_of_the_system_may_say_more_and_less(name: str) -> None:
    """In keyword arguments; that of the Scheduler has its one argument, and is strict with users."""
    signature = inspect.signature(app.tasks[name].run)
    parameters = signature.parameters.values()
    assert [one.kind for one in parameters][-1] is inspect.Parameter.VAR_KEYWORD
    signature.bind(*NEEDED.get(name, ()), **UNKNOWN)


# ---- rows and items


def test_a_field_of_a_row_that_is_not_known_is_kept_on_its_way() -> None:
    """It goes with the task into the retry table and into the closed one."""
    tables = Tables()
    item = {**to_item(ROW, tables), "of_a_later_version": {"M": {"n": {"N": "1"}}}}
    read = from_item(item, tables)
    assert read == replace(ROW, extra={**ROW.extra, "of_a_later_version": {"n": 1}})
    assert to_item(read, tables) == item


@pytest.mark.parametrize(
    ("field", "default"),
    [("payload", "{}"), ("job_id", ""), ("attempts", 0), ("failed_attempts", 0), ("completed_at", None)],
)
def test_a_row_may_lack_what_is_not_always_there(field: str, default: Any) -> None:
    """As one that was written by sosw itself."""
    tables = Tables()
    whole = replace(ROW, failed_attempts=1, completed_at=Decimal(5))
    item = to_item(whole, tables)
    del item[field]
    assert from_item(item, tables) == replace(whole, **{field: default})


def test_a_job_that_another_version_accepted_is_read_and_gone_on_with() -> None:
    """Its item, its parts and their bodies may say more, and less where something is optional."""
    with mock_aws():
        client = boto3.client("dynamodb", region_name="eu-west-1")
        create_tables(client, tables := Tables())
        table = JobTable(client, tables)
        now = Decimal(1_700_000_000)
        table.accept("j", {"lambda_name": "resize"}, "resize", now, datetime.date(2026, 3, 1))
        plain = table.record("j")
        change(client, tables, "j", "SET later = :more REMOVE sent_at")
        assert table.record("j") == replace(plain, sent_at=Decimal(0))
        assert table.body("j") == {"lambda_name": "resize"}
        writing = table.claim_chunking("j", "me", now, 30, ended_before=None)
        assert writing is not None
        writing = table.begin_writing(writing, "me", now=now, tasks=3, rows_per_part=3, batch_rows=2)
        change(client, tables, "j#part#00000", "SET later = :more REMOVE written")
        part = table.claim_part(writing, 0, "me", now, 30, ended_before=None)
        assert part is not None
        assert (part.first_row, part.rows, part.batch_rows, part.written) == (0, 3, 2, 0)
        assert table.finish_part(part)
        assert table.get("j").tasks == 3


def change(client: Any, tables: Tables, key: str, update: str) -> None:
    """Change an item as another version would have written it."""
    client.update_item(
        TableName=tables.jobs,
        Key={"job_id": {"S": key}},
        UpdateExpression=update,
        ExpressionAttributeValues={":more": {"S": "?"}},
    )


# ---- what they are not


@pytest.mark.parametrize("key", ["lambda_name", "labourer_id", "job"])
def test_a_job_is_no_envelope_whatever_its_attributes_are(key: str) -> None:
    """It names its labourer, or is wrapped."""
    assert Envelope.from_message({"sosw": {"job_id": "j"}, key: "resize"}) is None


@pytest.mark.parametrize(
    "lacking", [name for name in json.loads(PULSE.as_text()) if name not in DOORS["pulse of a node"].defaults]
)
def test_a_pulse_that_lacks_what_it_is_judged_by_is_none(lacking: str) -> None:
    """It is told apart from one that can be read."""
    found = json.loads(PULSE.as_text())
    del found[lacking]
    with pytest.raises(ValueError, match="expected the pulse of a worker node"):
        Pulse.from_text(json.dumps(found))
