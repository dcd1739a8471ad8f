"""Handing tasks out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sosw_celery.config.settings import load_settings
from sosw_celery.core.tasks.model import Hint
from sosw_celery.errors import StoreUnavailable
from sosw_celery.services import orchestrator
from sosw_celery.services.attempts import Run
from sosw_celery.services.orchestrator import Orchestrator, standby_target
from sosw_celery.stores.dynamodb.task_rows import to_item
from sosw_celery.stores.redis.slots import PassView
from sosw_celery.stores.redis.turns import Turns

System = Any


@pytest.fixture(autouse=True)
def _a_short_standby(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight tasks stand by, however fast they run: a queue of a few dozen runs through standby more than once."""
    monkeypatch.setattr(orchestrator, "HALF_LASTS_S", (0.0, 1e9))


def complete(system: System, run: Run) -> None:
    """End the run well."""
    system.attempts.complete(run.attempt, run.outcome())


def used(system: System) -> int:
    """Return how many slots are in use."""
    usage = system.slots.look("resize")
    return int(usage.pending + usage.running)


def test_a_pass_hands_out_as_many_tasks_as_there_are_slots_oldest_first(system: System) -> None:
    """Two slots: the two oldest tasks, and no more however often a pass is made; the others stand by."""
    system.queue(5)
    assert system.orchestrator.dispatch("resize") == 2
    assert system.orchestrator.dispatch("resize") == 0
    assert system.orchestrator.dispatch("resize", from_head=True) == 0
    assert system.ids() == ["task-001", "task-002"]


def test_a_freed_slot_goes_to_the_next_task_in_the_queue(system: System) -> None:
    """The close itself publishes the hint of the next task; no dispatch is sent for it."""
    system.queue(3)
    system.orchestrator.dispatch("resize")
    first, _ = system.begin_all()
    complete(system, first)
    assert (system.ids(), system.dispatches) == (["task-003"], [])


def test_a_pass_is_asked_for_when_standby_runs_low(system: System) -> None:
    """Eight stand by for two slots; the close that leaves four sends the one dispatch, and its pass fills them up."""
    system.queue(20)
    system.orchestrator.dispatch("resize")
    assert system.slots.look("resize").standby == standby_target(2) == 8
    ended = []
    for _ in range(3):
        for run in system.begin_all():
            complete(system, run)
            ended.append(run.attempt.task_id)
        assert system.dispatches == (["resize"] if len(ended) >= 4 else [])
    assert ended == [f"task-{number:03d}" for number in range(1, 7)]
    assert system.orchestrator.dispatch("resize") == 0
    assert system.slots.look("resize").standby == 8


def test_every_task_is_run_once_whatever_passes_there_are(system: System) -> None:
    """With a pass only where one is asked for all tasks run, in the order of the queue, and none twice."""
    system.queue(50)
    system.dispatches.append("resize")
    ended = []
    while system.dispatches or system.hints:
        for labourer_id in system.dispatches[:]:
            system.dispatches.remove(labourer_id)
            system.orchestrator.dispatch(labourer_id)
        for run in system.begin_all():
            complete(system, run)
            ended.append(run.attempt.task_id)
    assert ended == [f"task-{number:03d}" for number in range(1, 51)]


def test_nothing_is_read_while_slots_and_standby_are_full(system: System) -> None:
    """A pass that comes for nothing costs no read of the table, and one of the safety net neither."""
    system.queue(20)
    system.orchestrator.dispatch("resize")
    reads: list[str] = []
    system.task_table.client.meta.events.register("before-call.dynamodb", lambda model, **_: reads.append(model.name))
    system.orchestrator.dispatch("resize")
    system.tend()
    assert reads == []


def test_the_safety_net_fills_standby_up_when_it_runs_low(system: System) -> None:
    """It reads once for half a standby, not whenever one of them has got its slot."""
    system.queue(20)
    system.orchestrator.dispatch("resize")
    found = []
    for _ in range(2):
        for run in system.begin_all():
            complete(system, run)
        system.tend()
        found.append(system.slots.look("resize").standby)
    assert found == [6, 8]


def test_slots_that_came_free_otherwise_go_to_standby_first(system: System) -> None:
    """When leases end without a release, the next pass gives their slots to those who stand by, and publishes them."""
    system.queue(4)
    system.orchestrator.dispatch("resize")
    system.hints.clear()
    system.redis.delete("sosw:{resize}:pending")
    assert system.orchestrator.dispatch("resize") == 2
    assert system.ids() == ["task-003", "task-004"]


def drained_to(system: System, standby: int) -> None:
    """Run tasks until so many stand by."""
    while system.slots.look("resize").standby > standby:
        for run in system.begin_all():
            complete(system, run)


def test_standby_grows_while_half_of_it_is_used_up_at_once(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a pass serves dozens of short tasks; and no further than a pass reads in one turn."""
    monkeypatch.setattr(orchestrator, "HALF_LASTS_S", (5.0, 30.0))
    monkeypatch.setattr(orchestrator, "STANDBY_MAX", 50)
    system.queue(200)
    found = [0]
    while found[-1] < 50:
        system.orchestrator.dispatch("resize")
        found.append(system.slots.look("resize").standby)
        drained_to(system, found[-1] // 2)
    assert found == [0, 8, 16, 32, 50]
    system.orchestrator.dispatch("resize")
    assert system.slots.look("resize").standby == 50


@pytest.mark.parametrize(
    ("standby", "last", "filled_s_ago", "target"),
    [
        (32, 64, 31, 32),
        (32, 64, 10, 64),
        (32, 64, 1, 128),
        (33, 64, 31, 64),
        (33, 64, 1, 64),
        (4, 8, 31, 8),
        (90, 200, 1, 200),
        (0, 0, None, 8),
    ],
)
def test_half_of_standby_lasts_some_seconds(standby: int, last: int, filled_s_ago: float | None, target: int) -> None:
    """Longer, and what goes back to the head of the queue waits too long; shorter, and passes cost too much."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orchestrator, "HALF_LASTS_S", (5.0, 30.0))
        view = PassView(
            *("ready", 0, 2, 0, None, 1, None, False),
            standby=standby,
            standby_target=last,
            filled_s_ago=filled_s_ago,
        )
        assert standby_target(2, view) == target


def test_a_pass_that_finds_enough_on_standby_says_so(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer are to stand by than before, and so many do: the next release that leaves half of them asks for a pass."""
    system.queue(300)
    with monkeypatch.context() as large:
        large.setattr(orchestrator, "STANDBY_MIN", 64)
        system.orchestrator.dispatch("resize")
    drained_to(system, 32)
    monkeypatch.setattr(orchestrator, "HALF_LASTS_S", (5.0, 30.0))
    system.redis.hset("sosw:{resize}:state", "filled_at", int(system.slots.now() * 1000) - 31_000)
    system.dispatches.clear()
    system.orchestrator.dispatch("resize")
    assert system.slots.look("resize").standby == 32
    drained_to(system, 16)
    assert system.dispatches == ["resize"]


def test_a_pass_that_fails_to_read_is_not_waited_for(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next release asks for another one at once."""
    system.queue(40)
    system.orchestrator.dispatch("resize")
    drained_to(system, 4)
    system.dispatches.clear()

    def fail(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("dynamodb", "Query", "ThrottlingException")

    with monkeypatch.context() as away:
        away.setattr(system.task_table, "queued", fail)
        with pytest.raises(StoreUnavailable):
            system.orchestrator.dispatch("resize")
    complete(system, system.begin_all()[0])
    assert system.dispatches == ["resize"]


def test_rows_at_one_place_do_not_hold_a_pass_up(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of others may have one greenfield: all that a pass reads at the cursor may be handed out and not claimed."""
    monkeypatch.setattr(orchestrator, "STANDBY_MIN", 6)
    system.queue(30)
    rows = system.task_table.queued("resize", now=system.now, start=None, limit=8)
    table = system.task_table
    for row in rows:
        item = to_item(replace(row, greenfield=rows[0].greenfield), table.tables)
        table.client.put_item(TableName=table.tables.tasks, Item=item)
    system.orchestrator.dispatch("resize")
    for run in system.begin_all():
        complete(system, run)
    waits = system.hints.pop()
    for run in system.begin_all():
        complete(system, run)
    system.hints.append(waits)
    assert (used(system), system.slots.look("resize").standby) == (2, 3)
    reads: list[int] = []
    queued = system.task_table.queued

    def count(*args: Any, **options: Any) -> Any:
        reads.append(options["limit"])
        assert len(reads) < 10, reads
        return queued(*args, **options)

    monkeypatch.setattr(system.task_table, "queued", count)
    system.orchestrator.dispatch("resize")
    assert system.slots.look("resize").standby == 6


@pytest.mark.parametrize(("slots", "target"), [(1, 8), (4, 8), (30, 60), (5000, 200)])
def test_how_many_stand_by(slots: int, target: int) -> None:
    """Twice the slots, within bounds."""
    assert standby_target(slots) == target


def test_a_row_behind_the_cursor_is_handed_out(system: System) -> None:
    """A sibling may write a row with an earlier greenfield after later ones were handed out: it is found."""
    late, *_ = system.queue(3)
    system.task_table.client.delete_item(TableName="sosw_tasks", Key={"task_id": {"S": late.task_id}})
    system.orchestrator.dispatch("resize")
    system.task_table.write([late])
    (run, _) = system.begin_all()
    system.attempts.complete(run.attempt, run.outcome())
    system.orchestrator.dispatch("resize")
    assert system.ids() == [late.task_id]


def test_hints_that_could_not_be_published_free_their_slots(system: System) -> None:
    """When the broker refuses, nothing is lost: the next passes hand out others first and then these."""
    system.queue(3)
    system.error = ConnectionError("broker is away")
    with pytest.raises(ConnectionError):
        system.orchestrator.dispatch("resize")
    assert used(system) == 0
    with pytest.raises(ConnectionError):
        system.orchestrator.dispatch("resize")
    assert used(system) == 0
    system.error = None
    assert system.orchestrator.dispatch("resize") == 2
    assert system.slots.look("resize").standby == 1


def test_a_queue_with_a_refused_row_is_not_called_dry(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Late hints may take the slots between the read and the grants: what was read to the end is not all handed out."""
    system.queue(10)
    read = system.task_table.queued

    def read_while_late_hints_come(*args: Any, **options: Any) -> Any:
        for holder in ("late/1", "later/1"):
            system.slots.confirm("resize", holder, lease_s=60)
        return read(*args, **options)

    monkeypatch.setattr(system.task_table, "queued", read_while_late_hints_come)
    assert system.orchestrator.dispatch("resize") == 0
    usage = system.slots.look("resize")
    assert (usage.standby, usage.dry) == (8, False)


def test_an_empty_redis_is_rebuilt_before_anything_is_granted(make_system: Callable[..., System]) -> None:
    """After a flush running attempts have their slots again, and for a while nothing new starts."""
    system = make_system(settle_s=4)
    system.queue(5)
    system.orchestrator.dispatch("resize")
    assert len(system.begin_all()) == 2
    system.redis.flushall()
    assert system.orchestrator.dispatch("resize") == 0
    assert system.slots.look("resize").running == 2
    hint_under_way = Hint(system.task_table.find("task-003").task.next_attempt)
    assert system.attempts.begin(hint_under_way) is None


def test_a_first_start_grants_at_once(system: System) -> None:
    """It does not wait for nodes that cannot exist."""
    system.queue(1)
    assert system.orchestrator.dispatch("resize") == 1


def test_an_empty_redis_settles_although_nothing_shows_as_running(system: System) -> None:
    """A claim may be under way that the table does not show yet: nothing starts beside it."""
    system.queue(2)
    system.orchestrator.dispatch("resize")
    claims: list[Hint] = []
    claim = system.task_table.claim

    def claim_slowly(*args: Any, **options: Any) -> Any:
        system.redis.flushall()
        claims.extend(system.hints[-1:] if system.orchestrator.dispatch("resize") else [])
        return claim(*args, **options)

    system.task_table.claim = claim_slowly  # type: ignore[method-assign]
    assert system.attempts.begin(system.hints[0]) is not None
    assert system.slots.look("resize").ready == "settling"
    assert claims == []


def test_slots_are_made_although_the_tables_do_not_say_if_it_is_a_first_start(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it counts as none."""

    def refuse(*_: Any) -> bool:
        raise StoreUnavailable("dynamodb", "begin labourer", "ThrottlingException")

    monkeypatch.setattr(system.job_table, "begin_labourer", refuse)
    system.orchestrator.dispatch("resize")
    assert system.slots.look("resize").ready == "settling"


@pytest.fixture
def limited(make_system: Callable[..., System]) -> System:
    """A system whose labourer has five slots and may start six tasks a minute."""
    return make_system(labourers={"resize": {"max_simultaneous_invocations": 5, "rate_limit": "6/m"}})


def test_a_rate_hands_out_what_comes_due_while_a_hint_waits(limited: System) -> None:
    """At 6 a minute one task gets its slot; the others stand by, and get theirs when their token is in sight."""
    limited.queue(3)
    assert limited.orchestrator.dispatch("resize") == 1
    usage = limited.slots.look("resize")
    assert (usage.pending, usage.standby, usage.free) == (1, 2, 0)
    (run,) = limited.begin_all()
    assert run.waits
    assert limited.slots.start("resize", run.attempt.holder).wait_s == 0
    complete(limited, run)
    assert (limited.dispatches, limited.tend()) == ([], 0)
    limited.redis.hset("sosw:{resize}:state", "tat", float(limited.slots.now()) * 1000 + 5_000)  # five seconds later
    assert limited.tend() == 1
    (run,) = limited.begin_all()
    assert 0 < limited.slots.start("resize", run.attempt.holder).wait_s <= 5


def test_the_cap_of_who_started_last_is_obeyed_by_all(make_system: Callable[..., System]) -> None:
    """Workers and passes that are configured otherwise go by it, as soon as the safety net of the new process looks."""
    system = make_system(labourers={"resize": {"max_simultaneous_invocations": 3}})
    system.queue(9)
    system.orchestrator.dispatch("resize")
    runs = system.begin_all()
    newer = Orchestrator(
        load_settings({"labourers": {"resize": {"max_simultaneous_invocations": 1}}}),
        system.task_table,
        system.slots,
        hints=system.hint_publisher,
        messenger=system,
        clock=lambda: system.now,
        turns=Turns(system.redis, prefix="sosw"),
        is_first_start=lambda _: False,
        started_at=lambda: 5.0,
    )
    newer.tend(["resize"])
    assert system.passes == ["resize"]
    newer.dispatch("resize", from_head=True)
    newer.tend(["resize"])
    assert system.passes == ["resize"], "it is in force now"
    for run in runs[:2]:
        complete(system, run)
        system.orchestrator.dispatch("resize")
        assert system.hints == []
    complete(system, runs[2])
    system.orchestrator.dispatch("resize")
    assert len(system.hints) == used(system) == 1


def test_a_rate_limited_labourer_is_not_idle_while_somebody_stands_by(limited: System) -> None:
    """The safety net passes over a dry queue, but not over those who stand by beside a free slot."""
    limited.queue(2)
    limited.orchestrator.dispatch("resize")
    assert limited.slots.look("resize").dry
    (run,) = limited.begin_all()
    limited.slots.start("resize", run.attempt.holder)
    assert limited.tend() == 0
    limited.redis.hset("sosw:{resize}:state", "tat", 1)
    assert limited.tend() == 1
    assert limited.slots.look("resize").standby == 0


def test_the_safety_net_passes_over_a_queue_that_is_known_to_be_dry(system: System) -> None:
    """An idle labourer costs no read of the table."""
    system.orchestrator.dispatch("resize")
    system.queue(1)  # behind Redis's back
    assert system.tend() == 0
    assert system.orchestrator.dispatch("resize") == 1


@pytest.mark.parametrize(("depth", "kept"), [(2, True), (1, False)])
def test_slots_of_hints_are_kept_while_the_broker_has_them(
    make_system: Callable[..., System], depth: int, kept: bool
) -> None:
    """Hints that wait for a worker keep their slots; where the broker holds fewer, some are lost and all run out."""
    system = make_system(hint_lease_s=30)
    system.queue(2)
    system.orchestrator.dispatch("resize")
    for key in ("task-001/1", "task-002/1"):
        system.redis.zincrby("sosw:{resize}:pending", -20_000, key)  # 20 of 30 seconds have gone by
    system.depth = depth
    system.tend()
    pending, _ = system.slots.holders("resize")
    assert all((left > 15) is kept for left in pending.values())


def test_health_cuts_the_slots_of_a_pass(make_system: Callable[..., System]) -> None:
    """With health for one of three slots one task is handed out; when it recovers, the others are."""
    system = make_system(labourers={"resize": {"max_simultaneous_invocations": 3}})
    system.queue(5)
    system.health = 0.34
    assert system.orchestrator.dispatch("resize") == 1
    system.health = 1.0
    assert system.orchestrator.dispatch("resize") == 2


def test_a_labourer_that_is_held_back_goes_on_by_the_safety_net(system: System) -> None:
    """Its tasks stand by meanwhile, and the table is not read again and again; none is lost."""
    system.queue(3)
    system.health = 0.0
    for _ in range(3):
        assert system.tend() == 0
    assert system.slots.look("resize").standby == 3
    system.health = 1.0
    assert system.tend() == 2
    assert system.ids() == ["task-001", "task-002"]
