"""How labourers are called: an event becomes a job, and what a job does not keep is refused where it is said."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fakeredis
import pytest
from celery import Celery, chain, chord, group, signature
from celery.app.trace import build_tracer
from celery.exceptions import Ignore, Reject
from moto import mock_aws

from sosw_celery import Worker
from sosw_celery import app as sosw_app
from sosw_celery.core.tasks.model import Attempt, Hint
from sosw_celery.errors import ConfigError
from sosw_celery.names import QUEUES
from sosw_celery.stores.dynamodb.tables import create_tables
from sosw_celery.system.scheduler_task import scheduler_of
from sosw_celery.wiring.container import services_of
from sosw_celery.wiring.messenger import CeleryMessenger
from tests.apps import theirs

EVENT = {"images": ["a", "b"]}
JOB = {**EVENT, "lambda_name": "resize"}


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """An app of its own with two labourers and a plain task, tables on moto and a broker in memory."""
    section = {
        "labourers": {"resize": {}, "count": {}, "elsewhere": {}},
        "queue_bucket": f"file://{tmp_path}",
        "aws_region": "eu-west-1",
    }
    app = theirs(monkeypatch, section, backend="cache+memory://")

    @app.task(base=Worker, name="resize")
    def resize(event: dict[str, Any]) -> int:
        return len(event["images"])

    @app.task(base=Worker, name="count", bind=True)
    def count(self: Worker, job: dict[str, Any]) -> None:
        self.stats["images"] += len(job["images"])

    @app.task(name="plain", shared=False)
    def plain(*args: Any) -> dict[str, Any]:
        return EVENT

    with mock_aws():
        services = services_of(app)
        services.__dict__["redis"] = fakeredis.FakeRedis()
        create_tables(services.dynamodb, services.tables)
        monkeypatch.setattr(CeleryMessenger, "announce", lambda *_: None)
        for queue in ("sosw_scheduler", "resize", "elsewhere", "unlisted", "celery"):
            messages(app, queue)  # of the tests before: the broker is the process'
        yield app
        app.close()


def messages(app: Celery, queue: str = "sosw_scheduler") -> list[tuple[str, str, list[Any], dict[str, Any]]]:
    """Take the messages off a queue: task, id, and arguments."""
    found = []
    with app.connection_for_read() as connection, connection.SimpleQueue(queue) as waiting:
        while len(waiting):
            message = waiting.get(block=False)
            message.ack()
            args, kwargs, _ = json.loads(message.body or "")
            found.append((message.headers["task"], message.headers["id"], args, kwargs))
    return found


def body(app: Celery, job_id: str) -> dict[str, Any]:
    """Return the job that was accepted."""
    return services_of(app).job_table.body(job_id)


def labourer(app: Celery, name: str = "resize") -> Any:
    """Return a labourer."""
    return app.tasks[name]


# ---- the event


def test_a_labourer_needs_no_task_of_ours_to_be_imported(app: Celery) -> None:
    """The Scheduler's task is there with the labourer, and once."""
    result = labourer(app).delay(EVENT)
    assert body(app, result.id) == JOB
    assert scheduler_of(app) is app.tasks["scheduler"]
    assert [(task, message_id) for task, message_id, _, _ in messages(app)] == [("scheduler", result.id)]


def test_a_labourer_of_an_app_without_the_system_says_so() -> None:
    """Instead of a task that nobody knows."""
    plain = Celery("plain", broker="memory://", set_as_current=False)

    @plain.task(base=Worker, name="resize", shared=False)
    def resize(event: dict[str, Any]) -> None: ...

    with pytest.raises(ConfigError, match=r"labourer 'resize': expected one that has the system: .*install\(app\)"):
        resize.delay(EVENT)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((EVENT,), None), ([EVENT], {}), ((), {"event": EVENT}), (None, {"job": EVENT})],
)
def test_the_event_may_be_given_by_place_or_by_name(app: Celery, args: Any, kwargs: Any) -> None:
    """By the name `event`, or by what the body calls it."""
    result = labourer(app, "count").apply_async(args, kwargs)
    assert body(app, result.id) == {**EVENT, "lambda_name": "count"}


@pytest.mark.parametrize(
    ("args", "kwargs", "got"),
    [
        ((), {}, "got none"),
        ((), {"kinds": ["x"]}, "got kinds="),
        ((EVENT,), {"dry_run": True}, "got an object of 1 keys, dry_run="),
        ((EVENT, EVENT), {}, "got an object of 1 keys, an object of 1 keys"),
        ((EVENT,), {"event": EVENT}, "got an object of 1 keys, an object of 1 keys"),
        (("text",), {}, "got a text of 4 characters"),
        (([EVENT],), {}, "got a list of 1"),
        ((None,), {}, "got None"),
    ],
)
def test_anything_else_is_refused_where_it_is_called(app: Celery, args: Any, kwargs: Any, got: str) -> None:
    """Nothing of it is dropped, and no empty event is made of it; the message shows no values."""
    expected = f"labourer 'resize': expected one argument, its event as a dict, {got}"
    with pytest.raises(TypeError) as refused:
        labourer(app).delay(*args, **kwargs)
    assert str(refused.value).startswith(expected)
    assert messages(app) == []


def test_an_event_in_the_place_of_the_arguments_is_refused(app: Celery) -> None:
    """A mistake that is easily made: `apply_async` takes a list of arguments."""
    with pytest.raises(TypeError, match=r"expected args=\(event,\), got an object of 1 keys"):
        labourer(app).apply_async(EVENT)


def test_an_empty_event_has_to_be_said(app: Celery) -> None:
    """Then it is one."""
    assert body(app, labourer(app).delay({}).id) == {"lambda_name": "resize"}


# ---- options


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"expires": 0.001}, "a job that was accepted is carried out"),
        ({"link": {"task": "plain"}}, "nothing can follow a labourer"),
        ({"link_error": [{"task": "plain"}]}, "nothing can follow a labourer"),
        ({"chain": [{"task": "plain"}]}, "nothing can follow a labourer"),
        ({"chord": {"task": "plain"}}, "nothing can follow a labourer"),
        ({"time_limit": 5}, "it is `duration` of sosw.labourers.resize"),
        ({"soft_time_limit": 5}, "it is an attribute of the labourer"),
        ({"priority": 9}, "tasks run in the order of the labourer's queue"),
        ({"queue": "fast"}, "its queue has its name"),
        ({"routing_key": "fast"}, "its queue has its name"),
    ],
)
def test_an_option_that_a_job_does_not_keep_is_refused(app: Celery, options: dict[str, Any], why: str) -> None:
    """By its name, with the reason; the job is not accepted."""
    (option,) = options
    with pytest.raises(TypeError) as refused:
        labourer(app).apply_async((EVENT,), **options)
    assert str(refused.value).startswith(f"labourer 'resize': expected no {option}: {why}")
    assert messages(app) == []


def test_options_that_say_nothing_are_no_matter(app: Celery) -> None:
    """Celery's own callers state them all."""
    nothing: dict[str, Any] = {
        "link": None,
        "link_error": [],
        "chain": [],
        "chord": None,
        "queue": "resize",
        "shadow": None,
    }
    result = labourer(app).apply_async((EVENT,), {}, task_id="mine", **nothing)
    assert (result.id, body(app, "mine")) == ("mine", JOB)


# ---- canvas


@pytest.mark.parametrize(
    "build",
    [
        lambda a, b, plain: a.si(EVENT) | b.si(EVENT),
        lambda a, b, plain: a.si(EVENT) | plain.s(),
        lambda a, b, plain: chain(a.si(EVENT), b.si(EVENT))(),
        lambda a, b, plain: chain(signature("resize", (EVENT,), app=a.app), plain.s()).apply_async(),
        lambda a, b, plain: chord([a.si(EVENT), b.si(EVENT)], plain.s()).apply_async(),
        lambda a, b, plain: chord([plain.s(), a.si(EVENT)])(plain.s()),
        lambda a, b, plain: (group(plain.s(), a.si(EVENT)) | plain.s()).apply_async(),
        lambda a, b, plain: a.si(EVENT).link(b.s()),
        lambda a, b, plain: a.si(EVENT).clone().link_error(b.s()),
        lambda a, b, plain: a.s().partial((EVENT,)).link(b.s()),
        lambda a, b, plain: a.s(EVENT).on_error(b.s()),
        lambda a, b, plain: a.apply_async((EVENT,), link=b.s()),
    ],
)
def test_nothing_can_follow_a_labourer(app: Celery, build: Any) -> None:
    """It is said where a chain, a callback or a chord is built or called, before anything is sent."""
    with pytest.raises(TypeError, match=r"labourer 'resize': expected no .*: nothing can follow a labourer"):
        build(labourer(app), labourer(app, "count"), labourer(app, "plain"))
    assert messages(app) == messages(app, "celery") == []


@pytest.mark.parametrize("several", ["map", "starmap"])
def test_bodies_are_not_run_past_their_slots(app: Celery, several: str) -> None:
    """Celery's `map`, `starmap` and `chunks` would call them in a task of their own."""
    with pytest.raises(TypeError, match=r"submit one job, whose chunks are its tasks: scheduler\.delay"):
        getattr(labourer(app), several)([EVENT])
    with pytest.raises(TypeError, match="submit one job"):
        labourer(app).chunks([EVENT], 1)


def test_signatures_and_groups_are_jobs(app: Celery) -> None:
    """Alone, as a copy with its event, or several beside each other: each is a job under the id of its result."""
    task = labourer(app)
    alone, completed = task.s(EVENT).delay(), task.s().clone((EVENT,)).apply_async()
    several = group(task.si(EVENT), labourer(app, "count").s(EVENT))()
    assert [body(app, one.id)["lambda_name"] for one in (alone, completed, *several)] == ["resize"] * 3 + ["count"]
    assert len({message_id for _, message_id, _, _ in messages(app)}) == 4


def test_a_chain_may_end_with_a_labourer(app: Celery) -> None:
    """What came before gives the event; this is what a worker does when the task before it is through."""
    built = chain(labourer(app, "plain").s(), labourer(app).s())
    assert [task["task"] for task in built.tasks] == ["plain", "resize"]
    last = signature(json.loads(json.dumps(built.tasks[-1])), app=app)
    assert body(app, last.apply_async((EVENT,), chain=[], parent_id="p", root_id="r").id) == JOB


def test_a_task_stays_the_one_that_it_is(app: Celery) -> None:
    """Celery's `replace` would leave its row behind; the error names what to do."""
    for method in ("replace", "add_to_chord"):
        with pytest.raises(TypeError, match=r"expected no replace: .*; self\.spawn_sibling\(payload\)"):
            getattr(labourer(app), method)(labourer(app, "plain").s())


# ---- eager


def test_celerys_apply_calls_the_body_here(app: Celery) -> None:
    """As in a test of any task: no table, no slot."""
    assert labourer(app).apply((EVENT,)).get() == 2
    assert labourer(app).apply(kwargs={"event": EVENT}).get() == 2
    app.conf.task_always_eager = True
    result = labourer(app).apply_async((EVENT,), task_id="mine")
    assert (result.id, result.get()) == ("mine", 2)
    assert messages(app) == []


class Configured(Worker):
    """A class with a configuration."""

    name = "configured"
    DEFAULT_CONFIG = {"width": 3}

    def __call__(self, event: dict[str, Any]) -> int:
        """Return what its `__init__` has read."""
        return int(self.config["width"])


def test_a_class_is_made_before_it_is_applied() -> None:
    """Its registered object has no configuration until then."""
    try:
        assert Configured().apply((EVENT,)).get() == 3
    finally:
        del sosw_app.tasks["configured"]


# ---- messages of others


def receive(app: Celery, args: list[Any], kwargs: dict[str, Any] | None = None, task_id: str = "m") -> Any:
    """Have a worker's trace get a message for the labourer; return what it raised, as the trace tells it."""
    told: list[Any] = []
    task = labourer(app)
    task.push_request(id=task_id, is_eager=False)
    try:
        task.before_start(task_id, args, kwargs or {})
    except (Ignore, Reject) as verdict:
        told.append(verdict)
    finally:
        task.pop_request()
    assert len(told) == 1
    return told[0]


@pytest.mark.parametrize(("args", "kwargs"), [([EVENT], {}), ([], {"event": EVENT})])
def test_an_event_that_was_sent_as_a_message_becomes_a_job(app: Celery, args: list[Any], kwargs: Any) -> None:
    """It is passed on to the Scheduler, which accepts it under the message's id; twice is once."""
    for _ in range(2):
        assert isinstance(receive(app, list(args), kwargs, "by-name"), Ignore)
    passed = messages(app)
    assert passed == [("scheduler", "by-name", [JOB], {})] * 2
    tracer = build_tracer("scheduler", scheduler_of(app), app=app)
    for task, message_id, given, named in passed:
        tracer(message_id, given, named, {"id": message_id, "task": task, "delivery_info": {}})
    assert body(app, "by-name") == JOB
    assert app.AsyncResult("by-name").get()["tasks"] == 1


def test_a_message_that_is_no_event_is_dropped_with_a_word(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody else could do anything with it."""
    with caplog.at_level(logging.ERROR):
        assert isinstance(receive(app, [EVENT], {"dry_run": True}), Ignore)
    assert "message dropped: labourer 'resize': expected one argument, its event as a dict, got" in caplog.text
    assert messages(app) == []


@pytest.mark.parametrize(
    "message",
    [
        {"task_id": "t", "labourer_id": "resize", "attempt": "1"},
        {"task_id": "t", "labourer_id": "resize", "attempt": 1, "claimed": {}},
        Hint(Attempt("count", "t", 1)).as_message(),
    ],
)
def test_a_hint_that_is_not_ours_never_becomes_a_job(
    app: Celery, message: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Its task is in the table, and found again."""
    with caplog.at_level(logging.ERROR):
        assert isinstance(receive(app, [message]), Ignore)
    assert "message dropped" in caplog.text
    assert messages(app) == []


def test_a_message_stays_where_it_is_while_the_scheduler_cannot_be_told(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes back to its queue."""

    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("no broker")

    monkeypatch.setattr(app, "send_task", refuse)
    verdict = receive(app, [EVENT])
    assert (type(verdict), verdict.requeue) == (Reject, True)


def test_a_message_by_name_goes_to_the_queue_of_its_labourer(app: Celery) -> None:
    """A labourer's to its own, configured or registered; the system's to theirs; others to where Celery sends them."""

    @app.task(base=Worker, name="unlisted")
    def unlisted(event: dict[str, Any]) -> None: ...

    app.send_task("resize", [EVENT], task_id="a")
    app.send_task("scheduler", [JOB], task_id="b")
    app.send_task("plain", task_id="c")
    app.send_task("elsewhere", [EVENT], task_id="d")  # its code is not in this process
    app.send_task("unlisted", [EVENT], task_id="e")  # it has no entry in the configuration
    assert [message_id for _, message_id, _, _ in messages(app, "resize")] == ["a"]
    assert [message_id for _, message_id, _, _ in messages(app, QUEUES["scheduler"])] == ["b"]
    assert [message_id for _, message_id, _, _ in messages(app, "celery")] == ["c"]
    assert [message_id for _, message_id, _, _ in messages(app, "elsewhere")] == ["d"]
    assert [message_id for _, message_id, _, _ in messages(app, "unlisted")] == ["e"]
