"""Notices about dead tasks: each death is told to everybody, gathered, and once as long as nothing breaks."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import boto3
import moto
import pytest

from sosw_celery.config.settings import Settings, load_settings
from sosw_celery.core.tasks.alert import DeadTask, Notice, Owed, notice_of
from sosw_celery.core.tasks.model import Attempt, Task
from sosw_celery.core.tasks.retrying import Dead
from sosw_celery.errors import ConfigError, StoreError, StoreUnavailable
from sosw_celery.services.alerts import TELL_LIMIT_S, Notices
from sosw_celery.stores.aws.alert_targets import targets_from, to_function, to_webhook
from sosw_celery.stores.dynamodb.alert_outbox import EVERYBODY, AlertOutbox
from sosw_celery.stores.dynamodb.tables import Tables, create_tables
from sosw_celery.stores.dynamodb.task_table import Failure, TaskTable

NOW = Decimal("1795392000")


class Person:
    """Somebody who is told, and who may be out."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self.is_out = False

    def __call__(self, notice: Notice) -> None:
        """Take a notice."""
        if self.is_out:
            raise StoreUnavailable("webhook", "post")
        self.notices.append(notice)

    @property
    def told(self) -> list[int]:
        """How many deaths each notice told of."""
        return [notice.total for notice in self.notices]


class World:
    """Tasks that die, and two who want to know; the time is `now`."""

    def __init__(self, **notices: Any) -> None:
        self.now = NOW
        client = boto3.client("dynamodb", region_name="eu-west-1")
        tables = Tables(field_names={"job_id": "job"})
        create_tables(client, tables)
        self.outbox = AlertOutbox(client, tables)
        self.task_table = TaskTable(
            client,
            tables,
            delta=Decimal(31_557_600),
            job_counters=_no_job,
            parallel=1,
            owe_notice=self.outbox.put_request,
        )
        self.config = load_settings({"notices": notices}).notices
        self.anna, self.bert = Person(), Person()
        self._dead = 0

    def notices(self) -> Notices:
        """Return the service, as another process would have it."""
        return Notices(
            self.config,
            targets={"anna": self.anna, "bert": self.bert},
            outbox=self.outbox,
            task_table=self.task_table,
            clock=lambda: self.now,
        )

    def die(self, count: int, labourer_id: str = "resize") -> None:
        """Have tasks claimed, failed and dead."""
        for _ in range(count):
            self._dead += 1
            self.now += 1
            attempt = Attempt(labourer_id, f"task-{self._dead:03d}", 1)
            self.task_table.write([Task(attempt.task_id, labourer_id, self.now - 1, self.now - 1)])
            self.task_table.claim(attempt, now=self.now, node="n")
            self.task_table.fail(attempt, Dead(), Failure("OSError: gone", {}), now=self.now)

    def tick(self) -> dict[str, int]:
        """Let a minute pass and tell."""
        self.now += 60
        return self.notices().tell()


def _no_job(*_: Any) -> dict[str, Any]:
    raise AssertionError("these tasks belong to no job")


@pytest.fixture
def make_world() -> Iterator[Callable[..., World]]:
    """Builds a world with `notices` of one's own."""
    with moto.mock_aws():
        yield World


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """A world in which a notice names two tasks."""
    return make_world(max_tasks=2)


def test_what_died_meanwhile_is_told_together_and_once(world: World) -> None:
    """One notice for all, to each; then silence, until somebody dies again."""
    world.die(2)
    world.die(1, "count")
    assert world.tick() == {"anna": 3, "bert": 3}
    assert world.tick() == {}
    (notice,) = world.anna.notices
    assert notice.labourers == {"resize": 2, "count": 1}
    assert notice.tasks[0] == DeadTask("task-001", "resize", "", 1, "OSError: gone", float(NOW + 1))
    assert notice.text() == (
        "3 dead tasks: resize 2, count 1\n"
        "- resize task-001 after 1 attempt: OSError: gone\n"
        "- resize task-002 after 1 attempt: OSError: gone\n"
        "and 1 more"
    )
    world.die(1)
    assert world.tick() == {"anna": 1, "bert": 1}
    assert world.anna.told == world.bert.told == [3, 1]


def test_who_cannot_be_reached_is_told_later_and_nobody_else_twice(world: World) -> None:
    """A target that is out for a while gets everything when it is back, in one notice; the other is not bothered."""
    world.bert.is_out = True
    world.die(2)
    assert world.tick() == {"anna": 2}
    assert world.tick() == {}
    world.die(1)
    assert world.tick() == {"anna": 1}
    world.bert.is_out = False
    assert world.tick() == {"bert": 3}
    assert world.tick() == {}
    assert (world.anna.told, world.bert.told) == ([2, 1], [3])


def test_several_scavengers_send_one_notice(world: World) -> None:
    """While one tells, and for half of the interval after it, others do not."""
    world.die(1)
    told_by_others: list[dict[str, int]] = []

    class Slow(Person):
        def __call__(self, notice: Notice) -> None:
            told_by_others.append(world.notices().tell())
            super().__call__(notice)

    world.anna = Slow()
    assert world.tick() == {"anna": 1, "bert": 1}
    assert told_by_others == [{}]
    world.die(1)
    assert world.notices().tell() == {}
    world.now += 30
    assert world.notices().tell() == {"anna": 1, "bert": 1}


def test_a_process_that_dies_while_it_tells_makes_another_tell_again(world: World) -> None:
    """Nothing is settled before it is told; the next process may tell once the first must be dead."""
    world.die(1)
    world.now += 60
    assert world.outbox.claim(world.now, world.now + TELL_LIMIT_S)
    world.now += TELL_LIMIT_S - 1
    assert world.notices().tell() == {}
    world.now += 1
    assert world.notices().tell() == {"anna": 1, "bert": 1}


def test_a_burst_is_one_notice(world: World) -> None:
    """However many die: their number is told, a few are named, and reading goes on over pages and batches."""
    deaths = [Owed("resize", f"task#{number}") for number in range(60)]
    world.outbox.owe(EVERYBODY, deaths, NOW)
    assert world.tick() == {"anna": 60, "bert": 60}
    assert len(world.anna.notices[0].tasks) == 2
    assert world.anna.notices[0].tasks[0] == DeadTask("task#0", "resize")
    assert world.outbox.owed(EVERYBODY, 100) == []


def test_a_row_that_cannot_be_read_is_a_death_as_well(world: World) -> None:
    """It was set aside as dead; people hear of it though its row tells nothing."""
    client = world.task_table.client
    client.put_item(
        TableName="sosw_tasks",
        Item={"task_id": {"S": "odd"}, "labourer_id": {"S": "resize"}, "greenfield": {"N": "1"}, "payload": {"N": "1"}},
    )
    assert world.task_table.queued("resize", now=NOW, start=None, limit=5) == []
    assert world.tick() == {"anna": 1, "bert": 1}
    assert world.anna.notices[0].text().startswith("1 dead task: resize 1\n- resize odd after 0 attempts")


def test_without_targets_no_death_is_kept() -> None:
    """Nobody is told, so nothing is written; any of the three targets is somebody."""
    topic = "arn:aws:sns:eu-west-1:123456789012:dead"
    for section in ({}, {"sns_config": {"recipient": "", "subject": ""}}, {"notices": {"every_s": 5}}):
        assert not load_settings(section).tells_of_dead_tasks
        assert targets_from(load_settings(section)) == {}
    somebody: list[dict[str, Any]] = [
        {"sns_config": {"recipient": topic}},
        {"task_config": {"sns_config": {"recipient": topic, "subject": "Dead"}}},
        {"notices": {"webhook": "https://hooks.example.com/1"}},
        {"notices": {"call": "my_module:tell"}},
        {"notices": {"call": print}},
    ]
    for section in somebody:
        assert load_settings(section).tells_of_dead_tasks
        assert len(targets_from(load_settings(section))) == 1


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"sns_config": {"recipient": "dead-tasks"}}, "sosw.sns_config.recipient"),
        ({"sns_config": {"recipient": "arn:aws:sns:eu-west-1:1:t", "subject": "x" * 101}}, "sosw.sns_config.subject"),
        ({"notices": {"webhook": "hooks.example.com"}}, "sosw.notices.webhook"),
        ({"notices": {"call": "my_module.tell"}}, "sosw.notices.call"),
        ({"notices": {"every": 5}}, "sosw.notices.every"),
    ],
)
def test_settings_that_cannot_work_are_refused(section: dict[str, Any], key: str) -> None:
    """At the start, with the key; not on the day when something dies."""
    with pytest.raises(ConfigError) as refused:
        load_settings(section)
    assert refused.value.key == key


# ---- the targets


def some_notice() -> Notice:
    """Return a notice about one task."""
    return notice_of([Owed("resize", "5a0d")], [DeadTask("5a0d", "resize", "job", 3, "OSError:\n  gone", 1.5)])


def test_sns_gets_subject_and_text() -> None:
    """As a message of the topic, in the topic's own region."""
    with moto.mock_aws():
        topic = boto3.client("sns", region_name="us-east-2").create_topic(Name="dead")["TopicArn"]
        target = targets_from(settings(sns_config={"recipient": topic}))["sns"]
        target(some_notice())
        published = moto.backends.get_backend("sns")["123456789012"]["us-east-2"].topics[topic].sent_notifications
    ((_, message, subject, *_),) = published
    assert (subject, message) == ("sosw: dead tasks", some_notice().text())


def test_a_topic_that_is_gone_is_an_error_of_ours() -> None:
    """It names who was asked, and the vendor's code stays readable."""
    with moto.mock_aws():
        target = targets_from(settings(sns_config={"recipient": "arn:aws:sns:eu-west-1:123456789012:gone"}))["sns"]
        with pytest.raises(StoreError, match=r"^sns: Publish.*NotFound"):
            target(some_notice())


class Hook(BaseHTTPRequestHandler):
    """A webhook that keeps what it gets and answers with the status of its server."""

    def do_POST(self) -> None:
        """Keep the body."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, self.headers["Content-Type"], json.loads(body)))  # type: ignore[attr-defined]
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def hook() -> Iterator[Any]:
    """A webhook on this machine."""
    server: Any = HTTPServer(("127.0.0.1", 0), Hook)
    server.got, server.status = [], 200
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_webhook_gets_what_slack_takes(hook: Any) -> None:
    """A POST of JSON with the text."""
    to_webhook(f"http://127.0.0.1:{hook.server_port}/T1/B2", 5)(some_notice())
    text = "1 dead task: resize 1\n- resize 5a0d after 3 attempts: OSError: gone"
    assert hook.got == [("/T1/B2", "application/json", {"text": text})]


def test_a_webhooks_address_is_in_no_error(hook: Any) -> None:
    """Whoever knows it may post: neither a refusal nor a lost connection tells it."""
    hook.status = 403
    for port in (hook.server_port, 9):
        with pytest.raises(StoreError) as failed:
            to_webhook(f"http://127.0.0.1:{port}/secret", 5)(some_notice())
        assert "secret" not in str(failed.value)
        assert failed.value.__cause__ is None
        assert failed.value.__suppress_context__


def test_a_function_gets_the_notice_as_a_dict() -> None:
    """Itself, or by its path; shapes as JSON has them."""
    got: list[dict[str, Any]] = []
    to_function(got.append)(some_notice())
    (notice,) = got
    assert (notice["total"], notice["labourers"]) == (1, {"resize": 1})
    assert notice["text"].startswith("1 dead task")
    assert notice["tasks"][0]["task_id"] == "5a0d"
    to_function("builtins:len")(some_notice())
    with pytest.raises(ConfigError, match=r"sosw\.notices\.call: .* No module named"):
        to_function("no_such_module_at_all:tell")(some_notice())


def test_a_long_error_is_cut_and_many_tasks_are_counted_only() -> None:
    """A notice stays one that people read."""
    long = notice_of([Owed("a", "1")], [DeadTask("1", "a", "", 2, "x" * 999)])
    assert len(long.text()) < 400
    assert notice_of([Owed("a", "1"), Owed("a", "2")], []).text() == "2 dead tasks: a 2"


def settings(**section: Any) -> Settings:
    """Return settings."""
    return load_settings(section)
