"""What `task` shows of a task's history."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from sosw_celery.cli import sosw, task
from sosw_celery.core.tasks.history import Event, Origin
from sosw_celery.core.tasks.model import Task
from sosw_celery.services.overview import TaskState, TaskStatus

NOW = Decimal("1770000000.5")
EVENTS = [
    Event("5a0d", NOW, "created", Origin("scheduler", "m-1", "node-1"), {"labourer_id": "resize"}),
    Event(
        "5a0d",
        NOW + Decimal("0.00004200000112345678"),
        "failed",
        Origin("resize", "5a0d.1", "node-2"),
        {"labourer_id": "resize", "attempts": Decimal(1), "error": "OSError: gone"},
    ),
]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `task 5a0d` on a task with a history, without one, or with a reason why there is none."""

    def run(history: list[Event] | None, *options: str, problem: str = "") -> Result:
        found = TaskStatus(
            Task("5a0d", "resize", NOW, NOW), "tasks", TaskState.QUEUED, history=history, history_problem=problem
        )
        services = SimpleNamespace(overview=SimpleNamespace(task=lambda task_id: found))
        monkeypatch.setattr(task, "services_at", lambda data: services)
        return CliRunner().invoke(sosw, ["task", "5a0d", *options])

    return run


def test_the_events_stand_below_the_task_in_their_order(run: Callable[..., Result]) -> None:
    """A line each: when, what, by whom, and what else was noted."""
    lines = run(EVENTS).stdout.splitlines()
    start = lines.index("") + 1
    assert [line.split() for line in lines[start:]] == [
        ["at", "action", "attempt", "author", "invocation", "node", "more"],
        ["2026-02-02", "02:40:00.500000", "created", "scheduler", "m-1", "node-1"],
        ["2026-02-02", "02:40:00.500042", "failed", "1", "resize", "5a0d.1", "node-2", "error=OSError:", "gone"],
    ]


def test_programs_get_the_events_as_their_rows(run: Callable[..., Result]) -> None:
    """`--json`: a list of objects with sosw's fields."""
    shown = json.loads(run(EVENTS, "--json").stdout)
    assert [event["action"] for event in shown["history"]] == ["created", "failed"]
    assert shown["history"][1].items() >= {"author": "resize", "attempts": 1, "error": "OSError: gone"}.items()


def test_without_a_history_only_the_task_is_shown(run: Callable[..., Result]) -> None:
    """Neither a table without events nor a key without a value stands below it."""
    result = run(None)
    assert result.exit_code == 0
    assert "" not in result.stdout.splitlines()
    assert "history" not in json.loads(run(None, "--json").stdout)


def test_a_history_without_events_is_an_empty_list_for_programs(run: Callable[..., Result]) -> None:
    """One is kept, and nothing happened that it was told of; people see the task alone."""
    assert "" not in run([]).stdout.splitlines()
    assert json.loads(run([], "--json").stdout)["history"] == []


def test_a_history_that_cannot_be_read_is_told_beside_the_task(run: Callable[..., Result]) -> None:
    """The task is shown, and on stderr why there is no history."""
    result = run(None, problem="dynamodb: Query failed (ResourceNotFoundException)")
    assert (result.exit_code, result.stdout.split()[:2]) == (0, ["task", "5a0d"])
    assert result.stderr == "no history: dynamodb: Query failed (ResourceNotFoundException)\n"
