"""Who is ended for taking too long, and whose limits hold."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from celery.concurrency.prefork import TaskPool
from celery.concurrency.thread import TaskPool as ThreadPool

from sosw_celery.core.tasks.model import Attempt
from sosw_celery.labourer.pool_memory import Entry, Stage
from sosw_celery.node import limits
from sosw_celery.node.limits import LimitKeeper

ATTEMPT = Attempt("note", "task", 1)


def entry(stage: Stage, age_s: float, *, soft_s: float = math.inf, now: float = 1000.0) -> Entry:
    """Return what a process says that has been at a stage for so long, which may take 60 s."""
    return Entry("task.1", ATTEMPT, stage, now - age_s, 60, soft_s, slot_from=now, pid=4321)


class Keeper(LimitKeeper):
    """Keeps the limits of a node whose processes the test makes up; notes whom it ends and tells to end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(SimpleNamespace(app=None))
        self.ended: list[str] = []
        self.told: list[Entry] = []
        self.leases_are_over = False
        monkeypatch.setattr(limits.children, "end", lambda entry, reason: self.ended.append(reason))
        monkeypatch.setattr(limits.watchdog, "is_over", lambda stage, *_: stage.needs_lease and self.leases_are_over)

    def _tell(self, entry: Entry) -> None:  # type: ignore[override]
        self.told.append(entry)


@pytest.fixture
def keeper(monkeypatch: pytest.MonkeyPatch) -> Keeper:
    """A keeper of limits."""
    return Keeper(monkeypatch)


@pytest.mark.parametrize(
    ("stage", "age_s", "reason"),
    [
        (Stage.ASKING, 59, None),
        (Stage.ASKING, 61, "Time limit: slot and claim took longer than 60 s"),
        (Stage.READYING, 59, None),
        (Stage.READYING, 61, "Time limit: the labourer was made ready for longer than 60 s"),
        (Stage.RUNNING, 59, None),
        (Stage.RUNNING, 61, "Time limit: the body ran longer than 60 s"),
        (Stage.CLOSING, 59, None),
        (Stage.CLOSING, 61, "Time limit: the close took longer than 60 s"),
        (Stage.DONE, 1e6, None),
    ],
)
def test_each_stage_has_its_time(keeper: Keeper, stage: Stage, age_s: float, reason: str | None) -> None:
    """Whatever hangs, it hangs for so long, and the task says where."""
    keeper._judge(entry(stage, age_s), 1000.0)
    assert keeper.ended == ([] if reason is None else [reason])


@pytest.mark.parametrize("stage", list(Stage))
def test_without_its_lease_nobody_runs_a_body(keeper: Keeper, stage: Stage) -> None:
    """Whoever has one to lose ends when its node has not renewed it."""
    keeper.leases_are_over = True
    keeper._judge(entry(stage, 1), 1000.0)
    assert keeper.ended == (["Lost: its node could not renew its lease"] if stage.needs_lease else [])


def test_a_body_is_told_once_that_its_soft_limit_is_over(keeper: Keeper) -> None:
    """It may do what it likes in the time that it has left; the next body has a limit of its own."""
    first, second = entry(Stage.RUNNING, 5.1, soft_s=5), entry(Stage.RUNNING, 5.2, soft_s=5)
    for one in (entry(Stage.RUNNING, 4.9, soft_s=5), first, first, second):
        keeper._judge(one, 1000.0)
    assert (keeper.told, keeper.ended) == ([first, second], [])


class Labourer:
    """A labourer's task as far as limits look at it."""

    name = "note"
    own_limits: tuple[Any, Any] = (None, None)

    def __init__(self, time_limit: float | None = None, soft_time_limit: float | None = None) -> None:
        self.time_limit, self.soft_time_limit = time_limit, soft_time_limit


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The tasks of an app, by name: a labourer with a limit of its own, one without, and a task that is none."""
    monkeypatch.setattr(limits, "Worker", Labourer)
    labourer = SimpleNamespace(duration_s=60.5)
    monkeypatch.setattr(limits, "settings_of", lambda app: SimpleNamespace(labourer=lambda _: labourer))
    return {"own": Labourer(30, 20), "bare": Labourer(), "other": SimpleNamespace(time_limit=None, soft_time_limit=7)}


def create(tasks: dict[str, Any], pool: Any) -> bool:
    """Have the limits of a node with this pool set; return whether a thread keeps them."""
    keeper = LimitKeeper(SimpleNamespace(app=SimpleNamespace(tasks=tasks)))
    keeper.create(SimpleNamespace(pool=pool))
    return keeper._keeps


def test_celerys_own_limits_of_labourers_are_taken_over(tasks: dict[str, Any]) -> None:
    """A task's own before those of the node, as Celery has it; for other tasks Celery keeps them."""
    pool = TaskPool(2, timeout=50, soft_timeout=40)
    assert create(tasks, pool)
    assert (tasks["own"].own_limits, tasks["bare"].own_limits) == ((30, 20), (50, 40))
    assert (pool.options["timeout"], pool.options["soft_timeout"]) == (None, None)
    left = {name: (task.time_limit, task.soft_time_limit) for name, task in tasks.items()}
    assert left == {"own": (None, None), "bare": (None, None), "other": (50, 7)}


@pytest.mark.parametrize("pool", [ThreadPool(2), TaskPool(2, forking_enable=False)], ids=["threads", "spawned"])
def test_where_no_memory_is_shared_celery_keeps_the_limits(tasks: dict[str, Any], pool: Any) -> None:
    """They count from the message there; a labourer's `duration` is one of them."""
    assert not create(tasks, pool)
    assert (tasks["own"].time_limit, tasks["bare"].time_limit) == (30, 61)
    assert tasks["other"].time_limit is None
