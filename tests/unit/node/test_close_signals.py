"""Which process ends an attempt, when Celery tells of its end in the pool process and in the main process."""

from __future__ import annotations

import os
from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from celery.utils.threads import LocalStack

from sosw_celery import Worker
from sosw_celery.core.tasks.model import Attempt, Hint, Task
from sosw_celery.labourer import children
from sosw_celery.labourer.pool_memory import Board, Post, Stage
from sosw_celery.labourer.run_context import WorkerRun, keep_run
from sosw_celery.node import close_signals

ATTEMPT = Attempt("leave", "a", 1)
HINT = Hint(ATTEMPT)


@pytest.fixture
def post(monkeypatch: pytest.MonkeyPatch) -> Post:
    """A pool process that has the message, as the process of the test."""
    board = Board()
    post = Post(board)
    monkeypatch.setattr("sosw_celery.labourer.pool_memory.current_process", lambda: SimpleNamespace(index=3))
    monkeypatch.setattr(close_signals, "board", board)
    monkeypatch.setattr(close_signals, "here", post)
    post.ask(HINT.celery_id, ATTEMPT, 60)
    post.run(60, 60)
    return post


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Worker:
    """A labourer's task that no app has, with a run that has nothing to keep."""
    task = Worker()
    monkeypatch.setattr(task, "request_stack", LocalStack())
    monkeypatch.setattr(task, "outcome_of", lambda run: None)
    monkeypatch.setattr(task, "end_run", lambda run, completed: None)
    return task


@pytest.fixture
def failed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The errors by which an attempt was ended."""
    found: list[Any] = []
    gateway = SimpleNamespace(fail=lambda attempt, error, outcome, run: found.append(error))
    monkeypatch.setattr(close_signals, "_gateway", lambda sender, attempt: gateway)
    return found


def hear_in_main_process(monkeypatch: pytest.MonkeyPatch, task: Worker, error: str) -> None:
    """Have Celery tell the node's main process that the process of the message was lost."""
    main_pid = os.getpid() + 1
    monkeypatch.setattr("os.getpid", lambda: main_pid)
    monkeypatch.setattr(children, "lay_to_rest", lambda entry: None)
    args = [HINT.as_message()]
    close_signals.close_failed(sender=task, exception=error, args=args, task_id=HINT.celery_id)


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (lambda post: None, ["lost"]),
        (lambda post: post.close(900), ["lost"]),
        (lambda post: post.be_done(), []),
    ],
)
def test_an_end_is_told_by_the_main_process_only_if_the_process_itself_did_not(
    monkeypatch: pytest.MonkeyPatch,
    task: Worker,
    post: Post,
    failed: list[Any],
    before: Callable[[Post], None],
    expected: list[str],
) -> None:
    """Two messages about one end may reach the assistant in either order, and only one of them knows why."""
    before(post)
    hear_in_main_process(monkeypatch, task, "lost")
    assert failed == expected


def test_what_ends_the_process_ends_the_attempt_first(
    monkeypatch: pytest.MonkeyPatch, task: Worker, post: Post, failed: list[Any]
) -> None:
    """A body that raises `SystemExit` is told of with its own text, and once."""
    leaving = SystemExit(3)
    task.push_request(is_eager=False)
    keep_run(
        task.request,
        WorkerRun(Task("a", "leave", greenfield=Decimal(1), created_at=Decimal(1), attempts=1), raised=leaving),
    )
    close_signals.close_ignored(sender=task, state=None)
    task.pop_request()
    assert post.stage is Stage.DONE
    hear_in_main_process(monkeypatch, task, "lost")
    assert failed == [leaving]
