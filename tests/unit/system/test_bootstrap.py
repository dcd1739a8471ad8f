"""What the system does to an app of somebody's."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from celery import Celery

from sosw_celery import Worker
from sosw_celery.errors import ConfigError
from sosw_celery.system import bootstrap
from sosw_celery.system.scheduler_task import scheduler_of
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
