"""What `task` shows of a task's history."""

from __future__ import annotations

import json
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sosw_celery.cli import sosw, task
from sosw_celery.config.settings import load_settings
from sosw_celery.core.tasks.history import Event, Origin
from sosw_celery.core.tasks.model import Task
from sosw_celery.errors import StoreError
from sosw_celery.stores.dynamodb.task_table import Found

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
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `task 5a0d` with a `meta_handler_config` and a history of one's own."""

    def run(config: dict[str, Any] | None, history: Any, *options: str) -> Result:
        services = SimpleNamespace(
            settings=load_settings({"meta_handler_config": config}),
            task_table=SimpleNamespace(find=lambda *_: Found(Task("5a0d", "resize", NOW, NOW), "tasks")),
            meta_table=SimpleNamespace(history=history),
        )
        monkeypatch.setattr(task, "services_at", lambda data: services)
        return CliRunner().invoke(sosw, ["task", "5a0d", *options])

    return run


def test_the_events_stand_below_the_task_in_their_order(run: Any) -> None:
    """A line each: when, what, by whom, and what else was noted."""
    lines = run({}, lambda _: EVENTS).stdout.splitlines()
    start = lines.index("") + 1
    assert [line.split() for line in lines[start:]] == [
        ["at", "action", "attempt", "author", "invocation", "node", "more"],
        ["2026-02-02", "02:40:00.500000", "created", "scheduler", "m-1", "node-1"],
        ["2026-02-02", "02:40:00.500042", "failed", "1", "resize", "5a0d.1", "node-2", "error=OSError:", "gone"],
    ]


def test_programs_get_the_events_as_their_rows(run: Any) -> None:
    """`--json`: a list of objects with sosw's fields."""
    shown = json.loads(run({}, lambda _: EVENTS, "--json").stdout)
    assert [event["action"] for event in shown["history"]] == ["created", "failed"]
    assert shown["history"][1].items() >= {"author": "resize", "attempts": 1, "error": "OSError: gone"}.items()


@pytest.mark.parametrize("config", [None, {"write_meta_to_ddb": False}])
def test_without_a_history_only_the_task_is_shown(run: Any, config: dict[str, Any] | None) -> None:
    """The table is not even asked."""
    result = run(config, None)
    assert result.exit_code == 0
    assert "" not in result.stdout.splitlines()
    assert "history" not in json.loads(run(config, None, "--json").stdout)


def test_a_history_that_cannot_be_read_does_not_hide_the_task(run: Any) -> None:
    """The task is shown, and beside it why there is no history."""

    def refuse(task_id: str) -> list[Event]:
        raise StoreError("dynamodb", "Query", "ResourceNotFoundException")

    result = run({}, refuse)
    assert (result.exit_code, result.stdout.split()[:2]) == (0, ["task", "5a0d"])
    assert result.stderr == "no history: dynamodb: Query failed (ResourceNotFoundException)\n"
