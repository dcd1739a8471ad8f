"""What the system does to an app of somebody's."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from sosw_celery import Worker
from sosw_celery.errors import ConfigError
from sosw_celery.node.shutdown import write_history
from sosw_celery.system import bootstrap
from sosw_celery.system.loading import missing_code
from sosw_celery.system.own_worker import BOTH_KINDS
from sosw_celery.system.scheduler_task import scheduler_of
from sosw_celery.system.start_checks import StartChecks
from sosw_celery.wiring.container import has_services
from tests.apps import theirs


def sent(app: Celery, name: str, **options: Any) -> dict[str, Any]:
    """Return the options with which a task is sent."""
    return bootstrap.options_of(app, name, [{"canary": 1}], None, options)


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


def test_a_task_of_theirs_with_the_schedulers_name_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs would go to it."""
    app = theirs(monkeypatch, {})

    @app.task(name="scheduler", shared=False)
    def scheduler() -> None: ...

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Celery has its own word about names that are taken
        assert scheduler.name == "scheduler"
        with pytest.raises(ConfigError, match="no task of this name beside the system's"):
            scheduler_of(app)


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
    assert (missing.labourer_id, "rate_limit" in str(missing.problem)) == ("shrink", True)


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
