"""What is set on a worker of somebody's app."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from sosw_celery.celery_fixes import log_privacy
from sosw_celery.system.own_worker import make_ours
from tests.apps import theirs


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Celery:
    """An app whose own workers take four messages for each process, and pickles."""
    app = theirs(monkeypatch, {"labourers": {"resize": {}}})
    app.conf.update(accept_content=["json", "pickle"], worker_prefetch_multiplier=4)
    return app


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What decides whose log lines are hidden; empty as long as nobody's are."""
    found: list[Any] = []
    monkeypatch.setattr("sosw_celery.system.own_worker.keep_private", found.append)
    return found


def worker(app: Celery, *queues: str) -> Any:
    """Return a worker of these queues after its `worker_init`."""
    app.amqp.queues.select(queues)
    made = SimpleNamespace(app=app, prefetch_multiplier=4, consumer_cls="theirs")
    make_ours(made)
    return made


def settings(app: Celery) -> tuple[Any, ...]:
    """Return those that a worker of ours has otherwise."""
    return app.conf.accept_content, app.conf.worker_disable_prefetch, app.conf.broker_channel_error_retry


def test_a_worker_of_ours_alone_takes_one_message_and_is_ended_by_none(app: Celery, hidden: list[Any]) -> None:
    """Whatever the app has for its other workers; what it logs of our tasks is hidden."""
    made = worker(app, "resize", "sosw_scheduler")
    assert (made.prefetch_multiplier, made.consumer_cls) == (1, "sosw_celery.node.consumer:NodeConsumer")
    assert settings(app) == (["json"], True, True)
    ((is_private,),) = [hidden]
    assert (is_private("scheduler"), is_private("send_mail")) == (True, False)


@pytest.mark.parametrize(("queues", "hides"), [(["mails"], False), (["mails", "resize"], True)])
def test_a_worker_of_other_tasks_keeps_its_settings(
    app: Celery, hidden: list[Any], queues: list[str], hides: bool
) -> None:
    """One of both kinds hides our arguments, and changes nothing else."""
    before = settings(app)
    made = worker(app, *queues)
    assert (made.prefetch_multiplier, made.consumer_cls) == (4, "theirs")
    assert settings(app) == before
    assert bool(hidden) is hides


def test_signed_messages_stay_the_only_ones(app: Celery, hidden: list[Any]) -> None:
    """Where the app signs, our worker accepts no other."""
    app.conf.update(task_serializer="auth", accept_content=["auth"])
    worker(app, "resize")
    assert app.conf.accept_content == ["auth"]


def test_only_lines_of_private_tasks_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the name of their task."""
    monkeypatch.setattr(log_privacy, "_is_private", lambda name: name == "resize")
    shown = {}
    for name in ("resize", "send_mail"):
        record = logging.LogRecord("x", 20, "f", 1, "%(args)s", ({"name": name, "args": "said"},), None)
        log_privacy._hide_trace(record)
        shown[name] = record.getMessage()
    assert shown == {"resize": log_privacy.HIDDEN, "send_mail": "said"}
