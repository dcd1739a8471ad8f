"""What the system does to an app of somebody's."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from celery import Celery
from celery.signals import celeryd_init
from kombu import Queue

from sosw_celery import Worker, install
from sosw_celery.errors import ConfigError
from sosw_celery.names import QUEUES
from sosw_celery.node.shutdown import write_history
from sosw_celery.system import bootstrap
from sosw_celery.system.loading import NeededCode, missing_code
from sosw_celery.system.own_worker import BOTH_KINDS
from sosw_celery.system.registration import register_configured
from sosw_celery.system.scheduler_task import scheduler_of
from sosw_celery.system.start_checks import StartChecks
from sosw_celery.wiring.container import has_services, settings_of
from tests.apps import theirs


def sent(app: Celery, name: str, **options: Any) -> dict[str, Any]:
    """Return the options with which a task is sent."""
    return bootstrap.options_of(app, name, [{"canary": 1}], None, options)


def nothing() -> None:
    """Be the body of a task."""


def node_on(app: Celery, queue: str) -> None:
    """Have a node start that takes from a queue."""
    app.finalize()
    app.amqp.queues.select([queue])
    NeededCode(SimpleNamespace(app=app))


def test_a_task_of_theirs_is_sent_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours go to their queues as JSON, and show monitors nothing of what they are about."""
    app = theirs(monkeypatch, {"labourers": {"resize": {}}})
    app.conf.task_serializer = "pickle"
    assert sent(app, "send_mail", serializer="pickle", queue="mails") == {"serializer": "pickle", "queue": "mails"}
    ours = sent(app, "resize", serializer="pickle")
    assert (ours["queue"], ours["serializer"]) == ("resize", "json")
    assert "canary" not in ours["argsrepr"]
    assert sent(app, "resize", queue="elsewhere")["queue"] == "elsewhere"
    assert sent(app, "scheduler")["queue"] == "sosw_scheduler"


def test_a_wrong_section_keeps_no_task_of_theirs_from_being_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is ours says what is wrong."""
    app = theirs(monkeypatch, {"labourerz": {}})
    assert sent(app, "send_mail") == {}
    with pytest.raises(ConfigError, match="labourerz"):
        scheduler_of(app).delay({"lambda_name": "resize"})


@pytest.mark.parametrize("name", ["scheduler", "worker_assistant", "sosw.dispatch"])
def test_a_task_of_theirs_may_not_be_called_as_one_of_ours(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Jobs, or closes, would go to it: its definition says so."""
    app = theirs(monkeypatch, {})
    with pytest.raises(ConfigError, match=f"name of a task: expected .*, got '{name}'"):
        app.task(name=name, shared=False)(nothing)


@pytest.mark.parametrize("name", ["scheduler", "worker_assistant"])
def test_a_task_that_was_there_before_us_keeps_our_nodes_from_starting(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A node of the essentials would do that one's work. Whoever submits is told as well."""
    app = Celery("before", broker="memory://", set_as_current=False)
    app.task(name=name, shared=False, lazy=False)(nothing)
    app = theirs(monkeypatch, {"labourers": {"resize": {}}}, app=app)
    with pytest.raises(ConfigError, match=name):
        node_on(app, "resize")
    with pytest.raises(ConfigError, match=name):
        node_on(app, QUEUES[name])
    node_on(app, "mails")
    if name == "scheduler":
        with pytest.raises(ConfigError, match=name):
            scheduler_of(app)


def test_a_wrong_section_ends_the_nodes_that_need_it_and_no_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker for tasks of theirs alone runs on, and says what is wrong."""
    app = theirs(monkeypatch, {"labourers": {"resize": {"duration": "long"}}})
    app.loader.import_default_modules()
    for queue in ("resize", QUEUES["scheduler"]):
        with pytest.raises(ConfigError, match=r"sosw\.labourers\.resize\.duration"):
            node_on(app, queue)
    assert caplog.text == ""
    node_on(app, "mails")
    assert "sosw.labourers.resize.duration: expected" in caplog.text


def test_our_queues_are_known_where_no_queue_is_made_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """For messages and for `-Q`; a worker without that takes from the same queues as before."""
    app = theirs(monkeypatch, {"labourers": {"resize": {}}})
    app.conf.update(task_create_missing_queues=False, task_queues=[Queue("mails")])
    app.send_task("resize", [{}])
    app.loader.import_default_modules()
    assert list(app.amqp.queues.consume_from) == ["mails"]
    app.amqp.queues.select(["resize", *QUEUES.values()])
    with pytest.raises(KeyError):
        app.amqp.queues.select(["crop"])


def test_a_class_is_a_labourer_of_each_app_that_has_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shared task is: each has a task of its own, bound to it."""
    one, two = (theirs(monkeypatch, {"labourers": {"shrink": {}}}) for _ in range(2))

    class Shrink(Worker):
        name = "shrink"

        def __call__(self, event: Any) -> None: ...

    tasks = [app.tasks["shrink"] for app in (one, two)]
    assert [task.app for task in tasks] == [one, two]
    assert all(isinstance(task, Shrink) for task in tasks)


def test_a_class_that_cannot_be_a_labourer_keeps_its_nodes_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery would log what is wrong with it, and a node that is to run it would start."""
    app = theirs(monkeypatch, {"labourers": {"shrink": {}}})
    app.conf.task_annotations = {"shrink": {"rate_limit": "6/m"}}

    class Shrink(Worker):
        name = "shrink"

        def __call__(self, event: Any) -> None: ...

    app.finalize()
    (missing,) = missing_code(app)
    assert (missing.needed, "rate_limit" in str(missing.problem)) == ("shrink", True)


def test_what_ends_a_process_builds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that wait are written where there are services; an app whose section is wrong has none."""
    app = theirs(monkeypatch, {"labourerz": {}})
    write_history()
    assert not has_services(app)


def test_a_worker_of_both_kinds_says_what_that_means(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And nothing of queues that are not ours."""
    app = theirs(monkeypatch, {"labourers": {"resize": {}}})

    @app.task(base=Worker, name="resize")
    def resize(event: Any) -> None: ...

    monkeypatch.setattr("sosw_celery.system.start_checks._ask_stores", lambda *_: None)
    app.amqp.queues.select(["resize", "mails"])
    StartChecks(SimpleNamespace(app=app)).start(SimpleNamespace(app=app))
    assert [record.getMessage() for record in caplog.records] == [BOTH_KINDS]


def test_a_labourer_leaves_the_configuration_of_its_app_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows its line counts as well: settings, the section, and what is planned when the app is configured."""
    app = theirs(monkeypatch, None)

    @app.on_after_configure.connect
    def plan(sender: Celery, **_: Any) -> None:
        sender.add_periodic_task(5, later.s(), name="later")

    @app.task(base=Worker, name="crop_later")
    def crop_later(event: Any) -> None: ...

    assert not app.configured
    app.conf.update(sosw={"labourers": {"crop_later": {}}}, broker_url="memory://later")

    @app.task(name="later")
    def later() -> None: ...

    assert "later" in app.conf.beat_schedule
    assert app.conf.broker_url == "memory://later"
    assert (crop_later.name, list(settings_of(app).labourers)) == ("crop_later", ["crop_later"])
    assert isinstance(app.tasks["crop_later"], Worker)


def yields(event: Any) -> Any:
    """Would never run."""
    yield event


@pytest.mark.parametrize(
    ("function", "options", "error"),
    [
        (nothing, {"name": "a b"}, "name of a labourer: expected at most 140 letters"),
        (nothing, {"name": "scheduler"}, "name of a labourer"),
        (nothing, {"name": "crop", "priority": 3}, "priority of labourer 'crop'"),
        (yields, {"name": "crop"}, "without `yield`"),
    ],
)
def test_what_is_wrong_with_a_labourer_is_said_at_its_own_line(
    monkeypatch: pytest.MonkeyPatch, function: Any, options: dict[str, Any], error: str
) -> None:
    """Not when the app is used for the first time, which may be much later, and elsewhere."""
    app = theirs(monkeypatch, {})
    with pytest.raises((ConfigError, TypeError), match=error):
        app.task(base=Worker, **options)(function)
    with pytest.raises((ConfigError, TypeError), match=error):
        app.task(function, base=Worker, **options)
    assert not app.configured


def test_tasks_are_sent_by_every_argument_that_celery_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """By position as well: countdown, eta, id; and by what somebody puts in place of Celery's method later."""
    app = theirs(monkeypatch, {})
    assert app.send_task("theirs", (), {}, None, None, "an-id").id == "an-id"
    monkeypatch.setattr(Celery, "send_task", lambda self, name, *args, **options: (name, args, options))
    assert app.send_task("theirs", (1,), {}, 5, queue="mails") == ("theirs", ((1,), {}, 5), {"queue": "mails"})


def test_messages_without_headers_are_refused_for_ours_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """`task_protocol: 1` would have every message of ours refused where it comes to."""
    app = theirs(monkeypatch, {"labourers": {"resize": {}}}, task_protocol=1)
    assert sent(app, "send_mail") == {}
    with pytest.raises(ConfigError, match=r"task_protocol: expected 2 .*, got 1"):
        sent(app, "resize")


@pytest.mark.parametrize("section", [[], "", 0, False])
def test_a_section_that_is_no_dict_is_refused(monkeypatch: pytest.MonkeyPatch, section: Any) -> None:
    """Also one that Python takes for nothing."""
    app = theirs(monkeypatch, None)
    app.conf.sosw = section
    with pytest.raises(ConfigError, match="sosw: expected"):
        settings_of(app)


def test_a_worker_is_ours_whatever_loader_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that somebody wrote need not tell of its imports; and one that does is told of once."""
    imported: list[Celery] = []
    monkeypatch.setattr(bootstrap, "imported", imported.append)
    app = theirs(monkeypatch, {})
    celeryd_init.send(sender="node", instance=SimpleNamespace(app=app), conf=app.conf, options={})
    assert imported == [app]
    told = theirs(monkeypatch, {})
    told.loader.import_default_modules()
    celeryd_init.send(sender="node", instance=SimpleNamespace(app=told), conf=told.conf, options={})
    assert imported == [app, told]


def test_a_labourer_of_a_program_is_named_as_celery_names_its_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the app: `__main__` is no name that a queue can have."""
    app = theirs(monkeypatch, {}, Celery("proj", broker="memory://", set_as_current=False))

    def crop(event: Any) -> None: ...

    crop.__module__ = "__main__"
    assert app.task(base=Worker)(crop).name == "proj.crop"


def test_a_node_that_asks_the_tables_ends_if_nobody_says_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose labourers all go through the assistant has no need of them."""
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    app = theirs(monkeypatch, {"labourers": {"resize": {}, "assisted": {"close_through": "assistant"}}})
    node_on(app, "assisted")
    with pytest.raises(ConfigError, match=r"sosw\.aws_region: expected a region"):
        node_on(app, "resize")


def test_a_class_of_the_configuration_is_found_on_the_app_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where several have the system, and none of them is the current one."""
    monkeypatch.setitem(
        sys.modules, "of_two_apps", SimpleNamespace(Cropper=type("Cropper", (Worker,), {"run": nothing}))
    )
    app = theirs(monkeypatch, {"labourers": {"crop_of_two": {"worker": "of_two_apps:Cropper"}}})
    install(Celery("other", broker="memory://", set_as_current=False), {})
    register_configured(app)
    assert missing_code(app) == []
    assert isinstance(app.tasks["crop_of_two"], Worker)
