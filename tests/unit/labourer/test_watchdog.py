"""The watchdog of a pool process: whom it ends."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from sosw_celery.clock import steady
from sosw_celery.core.tasks.model import Attempt
from sosw_celery.labourer import pool_memory, watchdog
from sosw_celery.labourer.pool_memory import Board, Post, Stage
from sosw_celery.labourer.watchdog import Watchdog

LEASE_S = 20.0
ATTEMPT = Attempt("note", "task", 1)


@pytest.fixture
def post(monkeypatch: pytest.MonkeyPatch) -> Post:
    """What this process says of itself, as one of a pool."""
    monkeypatch.setattr(pool_memory, "current_process", lambda: SimpleNamespace(index=0))
    post = Post(Board())
    monkeypatch.setattr(watchdog, "here", post)
    post.ask("task.1", ATTEMPT, 300)
    return post


@pytest.fixture
def in_a_child(post: Post, monkeypatch: pytest.MonkeyPatch) -> Watchdog:
    """A watchdog as the pool process has it, whose main process renewed long ago; it bites nobody."""
    monkeypatch.setattr(threading.Thread, "start", lambda self: None)
    dog = Watchdog()
    dog.renewed(steady() - 100, LEASE_S)
    dog._main_pid.value = 1
    return dog


@pytest.mark.parametrize(("age_s", "bites"), [(0, False), (15, False), (17, True)])
def test_a_lease_counts_from_when_it_was_asked_for(post: Post, in_a_child: Watchdog, age_s: float, bites: bool) -> None:
    """A process that stood still since then does not take it for a new one."""
    post.make_ready(ATTEMPT, steady() - age_s, 300)
    assert in_a_child.bites() is bites
    post.run(900, 900)
    assert in_a_child.bites() is bites


@pytest.mark.parametrize("stage", [Stage.ASKING, Stage.CLOSING, Stage.DONE])
def test_who_has_no_lease_to_lose_is_not_bitten(post: Post, in_a_child: Watchdog, stage: Stage) -> None:
    """Before the slot, and after the body, nothing runs that another one might run beside."""
    post.slot_from = 0.0
    if stage is Stage.CLOSING:
        post.close(900)
    elif stage is Stage.DONE:
        post.be_done()
    assert not in_a_child.bites()
