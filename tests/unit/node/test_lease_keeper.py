"""What keeps leases, and ends attempts whose lease is gone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sosw_celery.clock import steady
from sosw_celery.core.tasks.model import Attempt, Hint
from sosw_celery.labourer import pool_memory as board_module
from sosw_celery.labourer.pool_memory import Board, Entry, Post, Stage
from sosw_celery.node import lease_keeper
from sosw_celery.node.lease_keeper import LeaseKeeper

LEASE_S = 20.0
ATTEMPT = Attempt("note", "task", 1)
KEY = ("note", "task/1")


class Pool:
    """A pool with one process, and the node's board."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(board_module, "current_process", lambda: SimpleNamespace(index=0))
        self.board = Board()
        self.post = Post(self.board)
        #: Messages that Celery knows to be under way.
        self.requests: list[Any] = []
        self.is_alive = True
        self.ended: list[tuple[Stage, str]] = []
        monkeypatch.setattr(lease_keeper, "board", self.board)
        monkeypatch.setattr(lease_keeper, "state", SimpleNamespace(active_requests=self.requests))
        monkeypatch.setattr(lease_keeper.children, "is_alive", lambda pid: self.is_alive)
        monkeypatch.setattr(lease_keeper.children, "end", self._end)

    def _end(self, entry: Entry, reason: str) -> bool:
        assert entry.attempt == ATTEMPT
        self.ended.append((entry.stage, reason))
        return True

    def accept(self) -> None:
        """Have Celery know of the attempt's message."""
        self.requests.append(SimpleNamespace(id=Hint(ATTEMPT).celery_id, args=[Hint(ATTEMPT).as_message()]))

    def say(self, stage: Stage) -> None:
        """Have the process say that it is that far."""
        self.post.ask(Hint(ATTEMPT).celery_id, ATTEMPT, 300)
        later = {
            Stage.READYING: lambda: self.post.make_ready(ATTEMPT, steady(), 300),
            Stage.RUNNING: lambda: self.post.run(900, 900),
            Stage.CLOSING: lambda: self.post.close(900),
            Stage.DONE: self.post.be_done,
        }
        if stage in later:
            later[stage]()


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Pool:
    """A pool whose process has said nothing yet."""
    return Pool(monkeypatch)


class Keeper(LeaseKeeper):
    """Renews for a node; the test says whose leases Redis has."""

    def __init__(self) -> None:
        super().__init__(SimpleNamespace(app=None))
        self.gone: set[lease_keeper.Key] = set()
        self.asked: list[set[lease_keeper.Key]] = []

    def _lost(self, running: Any) -> set[lease_keeper.Key]:
        self.asked.append(set(running))
        return self.gone & set(running)


@pytest.fixture
def keeper(pool: Pool) -> Keeper:
    """A keeper of that pool's node."""
    return Keeper()


@pytest.mark.parametrize("stage", [Stage.READYING, Stage.RUNNING])
def test_a_lease_that_is_gone_twice_ends_its_attempt(pool: Pool, keeper: Keeper, stage: Stage) -> None:
    """The second time is a moment later, whenever the attempt began; once may be the end that is just made."""
    pool.say(stage)
    keeper.gone = {KEY}
    keeper._renew(LEASE_S)
    assert pool.ended == []
    keeper._renew(LEASE_S)
    assert pool.ended == [(stage, "Lost: the lease of the attempt was gone while it ran")]


def test_a_lease_that_came_back_ends_nothing(pool: Pool, keeper: Keeper) -> None:
    """Twice means in a row."""
    pool.say(Stage.RUNNING)
    for gone in ({KEY}, set(), {KEY}):
        keeper.gone = gone
        keeper._renew(LEASE_S)
    assert pool.ended == []


@pytest.mark.parametrize("stage", [Stage.ASKING, Stage.CLOSING])
def test_before_its_slot_and_after_its_body_an_attempt_is_renewed_and_not_ended(
    pool: Pool, keeper: Keeper, stage: Stage
) -> None:
    """Redis does not know the one yet, and the other has no body that could run beside another one."""
    pool.say(stage)
    keeper.gone = {KEY}
    for _ in range(3):
        keeper._renew(LEASE_S)
    assert keeper.asked == [{KEY}] * 3
    assert pool.ended == []


def test_what_has_ended_is_not_renewed(pool: Pool, keeper: Keeper) -> None:
    """Not even while Celery has not heard of it: it would get a lease back in a Redis that has forgotten all."""
    pool.accept()
    pool.say(Stage.DONE)
    keeper._renew(LEASE_S)
    assert keeper.asked == [set()]


def test_what_celery_has_not_heard_of_is_renewed(pool: Pool, keeper: Keeper) -> None:
    """While it looks for a lost broker it reads nothing that its processes tell it."""
    pool.say(Stage.RUNNING)
    keeper._renew(LEASE_S)
    assert keeper.asked == [{KEY}]


def test_what_no_process_says_is_known_by_its_message(pool: Pool, keeper: Keeper) -> None:
    """With threads, and between Celery's hand-over and the first line of ours."""
    pool.accept()
    keeper._renew(LEASE_S)
    assert keeper.asked == [{KEY}]


@pytest.mark.parametrize("is_told", [False, True])
def test_what_a_dead_process_ran_keeps_its_lease_until_that_is_told(pool: Pool, keeper: Keeper, is_told: bool) -> None:
    """Its attempt is failed then; until that is written nobody gets its slot."""
    pool.say(Stage.RUNNING)
    pool.is_alive = False
    if not is_told:
        pool.accept()
    keeper._renew(LEASE_S)
    assert keeper.asked == [set() if is_told else {KEY}]


def test_after_a_stand_still_no_child_is_told_that_all_is_well(
    pool: Pool, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What had no lease when the node went on has lost it: whoever bites is right."""
    told: list[float] = []
    monkeypatch.setattr(lease_keeper.watchdog, "renewed", lambda at, lease_s: told.append(at))
    pool.say(Stage.RUNNING)
    keeper.gone = {KEY}
    keeper._looked_at -= LEASE_S
    keeper._renew(LEASE_S)
    assert told == []
    keeper._renew(LEASE_S)
    assert len(told) == 1
    assert len(pool.ended) == 1


def test_a_thread_that_lost_its_lease_is_told_of(pool: Pool, keeper: Keeper, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody can end it; an operator can know."""
    pool.accept()
    keeper._renew(LEASE_S)
    keeper.gone = {KEY}
    for _ in range(3):
        keeper._renew(LEASE_S)
    assert [record.message for record in caplog.records] == ["lease gone of an attempt that cannot be ended"]
