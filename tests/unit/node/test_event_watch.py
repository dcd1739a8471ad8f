"""Whether somebody follows the events of a node's tasks."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.events import EventDispatcher

from sosw_celery.labourer.pool_memory import shared_numbers
from sosw_celery.node import event_watch
from sosw_celery.node.event_watch import EventWatch, sends_task_events


@pytest.mark.parametrize(
    ("enabled", "groups", "sends"),
    [(True, None, True), (True, ["worker"], False), (True, ["worker", "task"], True), (False, None, False)],
)
def test_a_dispatcher_says_whether_it_sends_events_of_tasks(
    enabled: bool, groups: list[str] | None, sends: bool
) -> None:
    """By Celery's own: without -E a worker sends those of the worker alone, its heartbeats."""
    app = Celery("of-this-test", broker="memory://", set_as_current=False)
    with app.connection_for_write() as connection:
        dispatcher = EventDispatcher(connection, app=app, enabled=enabled, groups=groups)
        assert sends_task_events(dispatcher) is sends


def started(dispatcher: Any) -> tuple[Any, Callable[[], None]]:
    """Return a worker in which the step has started, and a look of the step."""
    looks: list[Callable[[], None]] = []

    def call_repeatedly(every_s: float, look: Callable[..., None], args: Any) -> None:
        looks.append(lambda: look(*args))

    hub = SimpleNamespace(timer=SimpleNamespace(call_repeatedly=call_repeatedly))
    worker: Any = SimpleNamespace(
        task_events=False, consumer=SimpleNamespace(event_dispatcher=dispatcher), hub=hub, app=None
    )
    step = EventWatch(worker)
    step.create(worker)
    step.start(worker)
    (look,) = looks
    return worker, look


def test_a_change_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """`enable_events` by remote control adds a group; while the node connects what was known stays."""
    watched = shared_numbers(1)[0]
    monkeypatch.setattr(event_watch, "is_watched", watched)
    dispatcher = SimpleNamespace(enabled=True, groups={"worker"})
    worker, look = started(dispatcher)
    look()
    assert watched.value == 0
    dispatcher.groups.add("task")
    look()
    assert watched.value == 1
    worker.consumer.event_dispatcher = None
    look()
    assert watched.value == 1


def test_a_worker_with_events_is_watched_from_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its first process is forked."""
    watched = shared_numbers(1)[0]
    monkeypatch.setattr(event_watch, "is_watched", watched)
    worker: Any = SimpleNamespace(task_events=True, app=None)
    EventWatch(worker).create(worker)
    assert watched.value == 1


def test_a_look_does_not_undo_that_the_node_was_asked_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its event loop makes another turn after the signal, with a look perhaps."""
    watched = shared_numbers(1)[0]
    monkeypatch.setattr(event_watch, "is_watched", watched)
    monkeypatch.setattr(EventWatch, "is_ending", False)
    dispatcher = SimpleNamespace(enabled=True, groups={"worker"})
    _, look = started(dispatcher)
    event_watch.end_lines()
    look()
    assert watched.value == 1
