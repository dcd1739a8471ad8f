"""The rules of slots and leases, on the twin and on a real Redis.

Where a rule is about a lease that ran out, most tests set its end into the past by hand: exact, and without waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from sosw_celery.core.rates import Rate
from sosw_celery.errors import StoreError, StoreUnavailable
from sosw_celery.stores.redis.slots import (
    Confirmation,
    Confirmed,
    Granted,
    Limits,
    PassView,
    Released,
    Slots,
    Start,
    Usage,
    sortable,
    unsortable,
)
from tests.contract.shares import CAP, share

LABOURER = "resize"
ONE_PER_HOUR = Rate(1, 3600)

Row = tuple[str, Decimal]


def rows(*greenfields: float | str) -> list[Row]:
    """Queued rows, each with its greenfield in its name."""
    return [(f"task{number}/1", Decimal(number)) for number in greenfields]


def names(*greenfields: float | str) -> list[str]:
    """The holders of these rows."""
    return [holder for holder, _ in rows(*greenfields)]


def take(slots: Slots, *greenfields: float | str, limit: int = 10, lease_s: float = 60, **options: Any) -> Granted:
    """Ask slots for these rows."""
    return slots.take(LABOURER, rows(*greenfields), share=share(limit), lease_s=lease_s, **options)


def confirm(slots: Slots, holder: str, limit: int = 10, lease_s: float = 60, **options: Any) -> Confirmation:
    """Have a worker confirm the holder."""
    return slots.confirm(LABOURER, holder, share=share(limit), lease_s=lease_s, **options).confirmation


def begin(slots: Slots, limit: int = 10, **options: Any) -> PassView:
    """Begin a pass."""
    return slots.begin_pass(LABOURER, limits=Limits(CAP), share=share(limit), lease_s=60, **options)


def release(slots: Slots, holder: str, limit: int = 10, **options: Any) -> Released:
    """Have a worker free the holder's slot."""
    return slots.release(LABOURER, holder, share=share(limit), lease_s=60, **options)


def renew(slots: Slots, *holders: str, lease_s: float = 60) -> set[str]:
    """Have a node renew these holders; return the lost ones."""
    return {holder for _, holder in slots.renew({LABOURER: holders}, lease_s=lease_s)}


def cursor(slots: Slots, limit: int = 10) -> Decimal | None:
    """Where the next pass would read on."""
    return begin(slots, limit=limit).cursor


def key(what: str, labourer_id: str = LABOURER) -> str:
    """The name of one of the labourer's keys."""
    return f"sosw:{{{labourer_id}}}:{what}"


def run_out(client: redis.Redis, holder: str) -> None:
    """Set the end of the holder's lease into the past."""
    for what in ("pending", "running"):
        client.zadd(key(what), {holder: 1}, xx=True)


def set_state(client: redis.Redis, **fields: float) -> None:
    """Set times or counters of the state by hand."""
    client.hset(key("state"), mapping=fields)  # type: ignore[arg-type]  # the stub's dict is invariant


def wait_until(condition: Callable[[], bool]) -> None:
    """Return as soon as the condition is true."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "the condition did not come true within 10 s"
        time.sleep(0.005)


# Granting


def test_take_grants_first_rows_up_to_the_limit(slots: Slots) -> None:
    """The first rows of the queue get the free slots, in order, and no more than there are."""
    assert take(slots, 1, 2, 3, limit=2) == Granted(names(1, 2), 2, refused=True)
    assert slots.look(LABOURER) == Usage(pending=2, running=0, ready="ready")


def test_take_again_grants_nothing_twice(slots: Slots) -> None:
    """Rows with a lease, pending or running, take no second slot, and the rows after them get the free ones."""
    take(slots, 1, 2)
    confirm(slots, "task1/1")
    assert take(slots, 1, 2, 3, 3).holders == names(3)
    assert slots.look(LABOURER) == Usage(2, 1, "ready")


def test_take_of_nothing_tells_the_use(slots: Slots) -> None:
    """An empty stretch is granted nothing."""
    take(slots, 1)
    assert take(slots) == Granted([], 1)


def test_a_lowered_limit_takes_no_lease_away(slots: Slots) -> None:
    """When the limit sinks below the use, nothing is free, nobody loses a lease, and pending ones may start."""
    take(slots, 1, 2, 3)
    assert take(slots, 4, limit=1) == Granted([], 3, refused=True)
    assert begin(slots, limit=1).free == 0
    assert confirm(slots, "task1/1", limit=1) is Confirmation.CONFIRMED


def test_labourers_do_not_share_slots(slots: Slots) -> None:
    """One labourer's leases do not count for another, and each has to be made ready by itself."""
    take(slots, 1, 2, limit=2)
    assert slots.take("crop", rows(1), share=share(2), lease_s=60).holders == []
    slots.rebuild("crop", [], limits=Limits(CAP), lease_s=60, settle_s=0)
    assert slots.take("crop", rows(1), share=share(2), lease_s=60).holders == names(1)


def test_keys_of_a_labourer_share_a_hash_tag(slots_redis: redis.Redis) -> None:
    """All keys begin with the prefix and carry the labourer as hash tag, so that a cluster keeps them together."""
    slots = Slots(slots_redis, prefix="mine")
    slots.rebuild(LABOURER, ["a/1"], limits=Limits(CAP), lease_s=60, settle_s=0)
    take(slots, 1, 2, limit=2, standby=1)
    found = {name if isinstance(name, str) else name.decode() for name in slots_redis.scan_iter()}
    assert found == {"mine:{resize}:pending", "mine:{resize}:running", "mine:{resize}:state", "mine:{resize}:standby"}
    slots.forget(LABOURER)
    assert slots_redis.dbsize() == 0


# Confirming


def test_confirm_moves_the_pending_lease(slots: Slots) -> None:
    """A hint's worker turns the pending lease into a running one; the use stays the same."""
    take(slots, 1, limit=1)
    assert confirm(slots, "task1/1", limit=1) is Confirmation.CONFIRMED
    assert slots.look(LABOURER) == Usage(pending=0, running=1, ready="ready")


def test_confirm_twice_is_held(slots: Slots) -> None:
    """The second worker with the same hint is told that it is running, and nothing changes."""
    take(slots, 1)
    confirm(slots, "task1/1")
    before = slots.holders(LABOURER)[1].keys()
    assert confirm(slots, "task1/1") is Confirmation.HELD
    assert slots.holders(LABOURER)[1].keys() == before


def test_confirm_without_lease_takes_a_free_slot_or_is_refused(slots: Slots) -> None:
    """A late hint runs if a slot is free, else it is dropped and the next pass reads from the head."""
    take(slots, 1, 2, limit=2)
    assert confirm(slots, "late/1", limit=3) is Confirmation.TAKEN
    assert confirm(slots, "later/1", limit=3) is Confirmation.FULL
    assert cursor(slots) is None
    assert slots.look(LABOURER) == Usage(2, 1, "ready")


def test_a_limit_that_was_lowered_holds_back_what_was_granted(slots: Slots) -> None:
    """As long as that many run, a granted hint is dropped, gives its slot back, and its row is found again."""
    take(slots, 1, 2, 3, limit=3)
    confirm(slots, "task1/1", limit=3)
    assert confirm(slots, "task2/1", limit=2) is Confirmation.CONFIRMED
    assert confirm(slots, "task3/1", limit=2) is Confirmation.FULL
    assert slots.look(LABOURER) == Usage(0, 2, "ready")
    assert cursor(slots) is None
    assert take(slots, 3, limit=3).holders == names(3)
    assert confirm(slots, "task3/1", limit=0) is Confirmation.FULL


def test_a_limit_that_was_lowered_ends_nothing(slots: Slots) -> None:
    """What runs keeps its lease; nothing is granted, and nothing handed over, until fewer run than may."""
    take(slots, 1, 2, 3, limit=2, standby=5)
    for holder in ("task1/1", "task2/1"):
        confirm(slots, holder, limit=2)
    assert (begin(slots, limit=0).free, begin(slots, limit=0).granted) == (0, ())
    assert release(slots, "task1/1", limit=1).granted == ()
    assert slots.look(LABOURER) == Usage(0, 1, "ready", standby=1)
    assert begin(slots, limit=2).granted == ("task3/1",)


def test_confirm_after_the_pending_lease_ran_out(slots: Slots, slots_redis: redis.Redis) -> None:
    """A hint that came too late does not keep its slot from another."""
    take(slots, 1, limit=1)
    run_out(slots_redis, "task1/1")
    assert take(slots, 2, limit=1).holders == names(2)
    assert confirm(slots, "task1/1", limit=1) is Confirmation.FULL


# Time


def test_leases_run_out_by_the_servers_clock(slots: Slots) -> None:
    """A lease that nobody renews is free after its time, and so counts no more."""
    take(slots, 1, limit=2, lease_s=0.05)
    confirm(slots, "x/1", limit=2, lease_s=0.1)
    wait_until(lambda: slots.look(LABOURER) == Usage(0, 0, "ready"))
    assert renew(slots, "x/1") == {"x/1"}
    assert take(slots, 1, 2, limit=2).holders == names(1, 2)


def test_holders_tells_the_seconds_left(slots: Slots, slots_redis: redis.Redis) -> None:
    """Leases that have not ended are listed with the seconds left, the first to end first; looking changes nothing."""
    take(slots, 1, 2, lease_s=30)
    confirm(slots, "a/1", lease_s=20)
    confirm(slots, "b/1", lease_s=10)
    confirm(slots, "gone/1")
    run_out(slots_redis, "gone/1")
    pending, running = slots.holders(LABOURER)
    assert list(running) == ["b/1", "a/1"]
    assert set(pending) == set(names(1, 2))
    assert all(25 < left <= 30 for left in pending.values())
    assert 15 < running["a/1"] <= 20
    assert slots.look(LABOURER) == Usage(2, 2, "ready")
    assert slots_redis.zscore(key("running"), "gone/1") == 1


# Renewing


def test_renew_lengthens_and_never_shortens(slots: Slots) -> None:
    """A running lease gets the new length, unless it was longer."""
    confirm(slots, "a/1", lease_s=5)
    assert renew(slots, "a/1", lease_s=100) == set()
    assert slots.holders(LABOURER)[1]["a/1"] > 90
    assert renew(slots, "a/1", lease_s=1) == set()
    assert slots.holders(LABOURER)[1]["a/1"] > 90


def test_renew_never_resurrects(slots: Slots, slots_redis: redis.Redis) -> None:
    """A lease that ran out, was released, is pending only or never was is reported as lost, and stays so."""
    for holder in ("out/1", "released/1", "kept/1"):
        confirm(slots, holder)
    take(slots, 1)
    run_out(slots_redis, "out/1")
    release(slots, "released/1")
    lost = {"out/1", "released/1", "never/1", "task1/1"}
    assert renew(slots, "kept/1", *lost) == lost
    assert renew(slots, "kept/1", *lost) == lost
    assert slots.look(LABOURER) == Usage(1, 1, "ready")


def test_renew_of_several_labourers(slots: Slots) -> None:
    """One call renews all that a node runs and names each lost one with its labourer; empty lists cost nothing."""
    slots.rebuild("crop", [], limits=Limits(CAP), lease_s=60, settle_s=0)
    confirm(slots, "a/1")
    lost = slots.renew({LABOURER: ["a/1", "b/1"], "crop": ["a/1"], "idle": []}, lease_s=60)
    assert lost == {(LABOURER, "b/1"), ("crop", "a/1")}
    assert slots.renew({}, lease_s=60) == slots.renew({"idle": []}, lease_s=60) == set()


def test_extend(slots: Slots, slots_redis: redis.Redis) -> None:
    """A running lease is lengthened once more by hand; one that is gone is not."""
    confirm(slots, "a/1", lease_s=5)
    assert slots.extend(LABOURER, "a/1", lease_s=300)
    assert slots.holders(LABOURER)[1]["a/1"] > 290
    run_out(slots_redis, "a/1")
    assert not slots.extend(LABOURER, "a/1", lease_s=300)


def test_renew_pending(slots: Slots, slots_redis: redis.Redis) -> None:
    """All pending leases that have not ended get the new length; one that ended stays so."""
    take(slots, 1, 2, 3, lease_s=5)
    run_out(slots_redis, "task2/1")
    confirm(slots, "a/1", lease_s=5)
    take(slots, 2, lease_s=5)
    run_out(slots_redis, "task2/1")
    assert slots.renew_pending(LABOURER, lease_s=100) == 2
    pending, running = slots.holders(LABOURER)
    assert set(pending) == set(names(1, 3))
    assert min(pending.values()) > 90
    assert running["a/1"] <= 5


# A clock that jumps


#: Fields of the state that are times by the server's clock.
TIMES = (
    "ready_at",
    "limits_at",
    "work_at",
    "filled_at",
    "filling_until",
    "look_at",
    "dispatch_until",
    "tat",
    "full_sweep_at",
)


def jump(client: redis.Redis, seconds: float) -> None:
    """Have the server's clock have jumped since the last call: all that it has kept is as much off, the other way."""
    for what in ("pending", "running"):
        for holder in client.zrange(key(what), 0, -1):
            client.zincrby(key(what), -seconds * 1000, holder)
    kept = client.hgetall(key("state"))
    for field in ("seen_at", *TIMES):
        value = kept.get(field, kept.get(field.encode()))
        if value is not None:
            set_state(client, **{field: float(value) - seconds * 1000})


@pytest.mark.parametrize("seconds", [31, 600, 40_000_000])
def test_no_lease_ends_because_the_clock_went_ahead(slots: Slots, slots_redis: redis.Redis, seconds: int) -> None:
    """Who runs keeps its slot for half a lease, in which its node renews it; held leases are no exception."""
    for holder in ("a/1", "held/1"):
        confirm(slots, holder, limit=4)
    confirm(slots, "soon/1", limit=4, lease_s=20)
    slots.extend(LABOURER, "held/1", lease_s=300)
    take(slots, 1, limit=4)
    jump(slots_redis, seconds)
    assert confirm(slots, "b/1", limit=4) is Confirmation.FULL
    pending, running = slots.holders(LABOURER)
    assert (set(pending), set(running)) == ({"task1/1"}, {"a/1", "held/1", "soon/1"})
    assert renew(slots, "a/1") == set()
    assert slots.holders(LABOURER)[1]["a/1"] > 55
    assert slots.begin_sweep(LABOURER).lapses == 0


def test_a_lease_that_nobody_renews_ends_after_a_jump(slots: Slots, slots_redis: redis.Redis) -> None:
    """Perhaps nobody lives: a lease is lengthened once without its node, however long nobody asks after that."""
    confirm(slots, "gone/1", lease_s=60)
    jump(slots_redis, 100)
    assert 29 < slots.holders(LABOURER)[1]["gone/1"] <= 31
    jump(slots_redis, 100)
    assert slots.holders(LABOURER)[1] == {}
    assert take(slots, 1, limit=1).holders == names(1)
    assert slots.begin_sweep(LABOURER).lapses == 1


def test_no_token_comes_due_because_the_clock_went_ahead(slots: Slots, slots_redis: redis.Redis) -> None:
    """The bucket is as empty as before; then it fills by the new time."""
    limited(slots, ONE_PER_HOUR)
    assert run_one(slots, "a/1") == Start(True, 0)
    jump(slots_redis, 7200)
    assert 3590 < slots.start(LABOURER, "a/1").wait_s <= 3601
    for _ in range(150):
        jump(slots_redis, 25)
        assert renew(slots, "a/1") == set()
    assert slots.start(LABOURER, "a/1") == Start(True, 0)


def test_time_that_passes_is_no_jump(slots: Slots, slots_redis: redis.Redis) -> None:
    """As long as somebody asks every half of a lease, leases end when they do."""
    confirm(slots, "a/1", lease_s=60)
    for _ in range(3):
        jump(slots_redis, 25)
        confirm(slots, "b/1", lease_s=600)
    assert set(slots.holders(LABOURER)[1]) == {"b/1"}


def test_nodes_have_their_time_to_report_although_the_clock_went_ahead(
    missing: Slots, slots_redis: redis.Redis
) -> None:
    """A store that settles goes on to settle, once."""
    missing.rebuild(LABOURER, [], limits=Limits(CAP), lease_s=60, settle_s=20)
    jump(slots_redis, 100)
    assert begin(missing).ready == "settling"
    jump(slots_redis, 15)
    assert renew(missing, "a/1") == set()
    jump(slots_redis, 100)
    assert begin(missing).ready == "ready"


@pytest.mark.parametrize("seconds", [2, 600])
def test_nothing_is_held_longer_because_the_clock_went_back(
    slots: Slots, slots_redis: redis.Redis, seconds: int
) -> None:
    """Leases, the time to settle and all other times last as long as they were to."""
    confirm(slots, "a/1", lease_s=60)
    slots.extend(LABOURER, "held/1", lease_s=300)
    limited(slots, ONE_PER_HOUR)
    take(slots, 1, lease_s=6)
    slots.start(LABOURER, "a/1")
    slots.announce_work(LABOURER)
    slots.end_sweep(LABOURER, 0, full=True)
    jump(slots_redis, -seconds)
    pending, running = slots.holders(LABOURER)
    assert 58 < running["a/1"] <= 61
    assert pending["task1/1"] <= 7
    view = begin(slots)
    assert view.work_age_s is not None
    assert 0 <= view.work_age_s < 2
    assert 3580 < slots.start(LABOURER, "a/1").wait_s <= 3601 - 6
    assert (slots.begin_sweep(LABOURER).seconds_since_full_sweep or 0) < 2
    marker = slots_redis.hget(key("state"), "dispatch_until")
    assert marker is None


def test_everything_that_was_to_come_comes_in_its_time_although_the_clock_went_back(
    slots: Slots, slots_redis: redis.Redis
) -> None:
    """Each time that is kept is as far from now as it was: nobody waits for the ten minutes to pass again."""
    now = round(time.time() * 1000)
    times = {name: now + 1000 * number for number, name in enumerate(TIMES)}
    set_state(slots_redis, **times, seen_at=now)
    jump(slots_redis, -600)
    slots.look(LABOURER)
    kept = slots_redis.hmget(key("state"), TIMES)
    assert {name: abs(float(at or 0) - times[name]) < 60_000 for name, at in zip(TIMES, kept, strict=True)} == (
        dict.fromkeys(TIMES, True)
    )


def test_the_first_who_asks_after_the_clock_went_back_is_answered_as_ever(
    slots: Slots, slots_redis: redis.Redis
) -> None:
    """A hint that is taken up at that moment is not dropped."""
    jump(slots_redis, -600)
    assert confirm(slots, "a/1") is Confirmation.TAKEN


def test_a_store_settles_no_longer_because_the_clock_went_back(missing: Slots, slots_redis: redis.Redis) -> None:
    """Nobody waits for the clock to get there again."""
    missing.rebuild(LABOURER, [], limits=Limits(CAP), lease_s=60, settle_s=0.05)
    jump(slots_redis, -600)
    wait_until(lambda: missing.look(LABOURER).ready == "ready")


# A missing store


def test_nothing_is_granted_while_missing(missing: Slots) -> None:
    """On a fresh or flushed Redis nobody gets a slot, whatever is free."""
    view = begin(missing, limit=5)
    assert (view.ready, view.free) == ("missing", 0)
    assert take(missing, 1) == Granted([], 0, refused=True)
    assert confirm(missing, "a/1") is Confirmation.UNREADY
    assert missing.look(LABOURER) == Usage(0, 0, "missing")


def test_announced_work_does_not_make_a_missing_store_ready(missing: Slots) -> None:
    """Whatever else is noted on an empty Redis, only a rebuild makes it ready."""
    missing.announce_work(LABOURER, Decimal(1))
    missing.note_retry(LABOURER, Decimal(1))
    release(missing, "a/1")
    missing.end_pass(LABOURER, work_seq=1, dry=True)
    missing.end_sweep(LABOURER, 1, full=True)
    assert begin(missing, limit=5).ready == "missing"


def test_renewals_while_missing_are_kept_by_the_rebuild(missing: Slots) -> None:
    """What nodes report before the rebuild is nobody's loss, and counts beside what the table says."""
    assert renew(missing, "a/1", "b/1") == set()
    assert confirm(missing, "a/1") is Confirmation.HELD
    assert missing.rebuild(LABOURER, ["b/1", "c/1"], limits=Limits(CAP), lease_s=60, settle_s=0)
    assert set(missing.holders(LABOURER)[1]) == {"a/1", "b/1", "c/1"}
    assert take(missing, 1, 2, limit=4).holders == names(1)


def test_nodes_report_while_settling(missing: Slots, slots_redis: redis.Redis) -> None:
    """In the settle time nothing is granted and a missing or ended lease comes back; after it this is over."""
    missing.rebuild(LABOURER, ["a/1"], limits=Limits(CAP), lease_s=60, settle_s=60)
    run_out(slots_redis, "a/1")
    assert renew(missing, "a/1", "b/1") == set()
    assert missing.extend(LABOURER, "c/1", lease_s=60)
    view = begin(missing, limit=5)
    assert (view.ready, view.free, view.running) == ("settling", 0, 3)
    assert take(missing, 1) == Granted([], 3, refused=True)
    assert confirm(missing, "new/1") is Confirmation.UNREADY
    assert confirm(missing, "a/1") is Confirmation.HELD
    set_state(slots_redis, ready_at=1)
    assert renew(missing, "a/1", "d/1") == {"d/1"}
    assert take(missing, 1, limit=4).holders == names(1)


def test_settle_time_ends(missing: Slots) -> None:
    """After the settle time slots are granted without another call."""
    missing.rebuild(LABOURER, [], limits=Limits(CAP), lease_s=60, settle_s=0.05)
    wait_until(lambda: missing.look(LABOURER).ready == "ready")
    assert take(missing, 1).holders == names(1)


def test_rebuild_counts_once(missing: Slots) -> None:
    """Of two rebuilds the first counts: the second one's older knowledge adds nothing."""
    assert missing.rebuild(LABOURER, ["a/1"], limits=Limits(CAP), lease_s=60, settle_s=60)
    assert not missing.rebuild(LABOURER, ["a/1", "b/1"], limits=Limits(CAP), lease_s=60, settle_s=0)
    assert missing.look(LABOURER) == Usage(0, 1, "settling")


def test_flush_then_rebuild(slots: Slots, slots_redis: redis.Redis) -> None:
    """After a flush the running attempts keep their slots, the cursor is gone, and grants go on as before."""
    take(slots, 1, 2, 3)
    confirm(slots, "task1/1")
    confirm(slots, "task2/1")
    slots_redis.flushall()
    assert renew(slots, "task1/1") == set()
    slots.rebuild(LABOURER, names(1, 2), limits=Limits(CAP), lease_s=60, settle_s=0)
    assert cursor(slots) is None
    assert renew(slots, "task1/1", "task2/1") == set()
    assert take(slots, 3, 4, limit=3).holders == names(3)


# Releasing


def test_release_frees_the_slot_once(slots: Slots) -> None:
    """A running or pending lease is gone; releasing again, or what never was, changes nothing."""
    take(slots, 1, 2, limit=2)
    confirm(slots, "task1/1", limit=2)
    assert release(slots, "task1/1").released
    assert release(slots, "task2/1").released
    assert not release(slots, "task2/1").released
    assert not release(slots, "never/1").released
    assert slots.look(LABOURER) == Usage(0, 0, "ready")


def test_a_slot_is_handed_on_once_however_often_it_is_asked_for(slots: Slots) -> None:
    """A client repeats a call whose answer it missed. The ended run is not lost while its successor has the slot."""
    take(slots, 1, 2, 3, limit=1, standby=2)
    confirm(slots, "task1/1", limit=1)
    for _ in range(2):
        assert slots.hand_on(LABOURER, "task1/1", share=share(1), lease_s=60).granted == ("task2/1",)
    assert slots.begin_sweep(LABOURER).running == {"task1/1", "task2/1"}
    assert slots.look(LABOURER) == Usage(0, 1, "ready", standby=1)
    assert slots.hand_again(LABOURER, "task2/1", "task1/1", lease_s=60)
    assert not slots.hand_again(LABOURER, "task2/1", "task1/1", lease_s=60)
    assert slots.begin_sweep(LABOURER).running == {"task1/1"}
    assert slots.hand_on(LABOURER, "never/1", share=share(1), lease_s=60).granted == ()


def test_one_dispatch_for_a_burst_of_releases(slots: Slots) -> None:
    """Only the first release since the last pass is told to dispatch, and none whose lease was gone."""
    for holder in ("a/1", "b/1", "c/1"):
        confirm(slots, holder)
    due = [release(slots, holder).dispatch_due for holder in ("gone/1", "a/1", "b/1")]
    assert due == [False, True, False]
    slots.end_pass(LABOURER, work_seq=begin(slots).work_seq, dry=False)
    assert release(slots, "c/1").dispatch_due


def test_no_dispatch_while_a_pass_fills_standby_up(slots: Slots, slots_redis: redis.Redis) -> None:
    """The rows that it takes serve whoever comes to be free meanwhile; a pass that dies is not waited for."""
    for holder in ("a/1", "b/1", "c/1", "d/1"):
        confirm(slots, holder)
    begin(slots)
    assert not release(slots, "a/1").dispatch_due
    assert take(slots, 1, limit=4).holders == names(1)
    assert release(slots, "b/1").dispatch_due
    begin(slots)
    assert not release(slots, "c/1").dispatch_due
    until = slots_redis.hget(key("state"), "filling_until")
    assert 0 < float(until or 0) / 1000 - time.time() <= 1.1
    set_state(slots_redis, filling_until=1)
    assert release(slots, "d/1").dispatch_due


def test_lost_dispatch_message(slots: Slots, slots_redis: redis.Redis) -> None:
    """The marker holds for a few seconds only, so a lost dispatch message does not silence the labourer."""
    confirm(slots, "a/1")
    confirm(slots, "b/1")
    release(slots, "a/1")
    marker = slots_redis.hget(key("state"), "dispatch_until")
    assert 3 < float(marker or 0) / 1000 - time.time() <= 5.1
    set_state(slots_redis, dispatch_until=1)
    assert release(slots, "b/1").dispatch_due


def test_no_dispatch_for_a_dry_queue(slots: Slots) -> None:
    """Releases of a labourer without waiting rows ask for no dispatch until there is work."""
    confirm(slots, "a/1")
    confirm(slots, "b/1")
    assert slots.end_pass(LABOURER, work_seq=begin(slots).work_seq, dry=True)
    assert not release(slots, "a/1").dispatch_due
    assert slots.announce_work(LABOURER, None)
    assert not slots.announce_work(LABOURER, None)
    assert not release(slots, "b/1").dispatch_due


def test_a_close_that_keeps_its_slot_counts_for_the_archive(slots: Slots) -> None:
    """The slot stays in use; every third close, of whatever kind, asks for a sweep."""
    confirm(slots, "a/1")
    assert [slots.note_close(LABOURER), slots.note_close(LABOURER), slots.note_close(LABOURER)] == [False, False, True]
    assert slots.look(LABOURER).running == 1
    assert slots.begin_sweep(LABOURER).closes == 3
    release(slots, "a/1")
    assert slots.begin_sweep(LABOURER).closes == 4


def test_archive_is_due_every_so_many_ends(slots: Slots) -> None:
    """Every third end since the last archive sweep asks for one, counted also when the lease had run out before."""
    due = [release(slots, f"a{number}/1").archive_due for number in range(7)]
    assert due == [False, False, True, False, False, True, False]
    slots.end_sweep(LABOURER, slots.begin_sweep(LABOURER).closes_seen, full=False)
    due = [release(slots, f"b{number}/1").archive_due for number in range(3)]
    assert due == [False, False, True]


# Standby


def test_rows_without_a_slot_go_on_standby(slots: Slots) -> None:
    """Rows that find no slot stand by until there are enough; these are handed out too, and the cursor is past them."""
    assert take(slots, 1, 2, 3, 4, 5, limit=2, standby=2) == Granted(names(1, 2), 2, standby=2, refused=True)
    assert slots.look(LABOURER) == Usage(pending=2, running=0, ready="ready", standby=2)
    assert cursor(slots, limit=2) == 4
    assert take(slots, 1, 2, 3, 4, limit=2, standby=2) == Granted([], 2, standby=2)


def test_a_release_hands_the_slot_over(slots: Slots) -> None:
    """Who stands by first gets the slot in the call that frees it, as a pending lease; the use stays the same."""
    take(slots, 1, 2, 3, 4, limit=1, standby=3)
    confirm(slots, "task1/1", limit=1)
    assert release(slots, "task1/1", limit=1) == Released(True, False, False, granted=("task2/1",))
    assert slots.look(LABOURER) == Usage(pending=1, running=0, ready="ready", standby=2)
    assert confirm(slots, "task2/1", limit=1) is Confirmation.CONFIRMED


def test_a_slot_is_handed_over_once(slots: Slots) -> None:
    """Releasing again, or what never was, hands over only what is free, and never beyond the limit."""
    take(slots, 1, 2, 3, 4, limit=2, standby=2)
    assert release(slots, "task1/1", limit=2).granted == ("task3/1",)
    assert release(slots, "task1/1", limit=2).granted == ()
    assert release(slots, "task2/1", limit=1).granted == ()
    assert release(slots, "never/1", limit=2).granted == ("task4/1",)
    assert slots.look(LABOURER) == Usage(2, 0, "ready")


def test_one_release_hands_over_ten_at_most(slots: Slots) -> None:
    """After the limit was raised one release publishes a few, and asks for a pass for the rest."""
    take(slots, *range(100, 115), limit=1, standby=14)
    slots.end_pass(LABOURER, work_seq=begin(slots, limit=1).work_seq, dry=True)
    confirm(slots, "task100/1")
    answer = release(slots, "task100/1", limit=50)
    assert (list(answer.granted), answer.dispatch_due) == (names(*range(101, 111)), True)
    assert list(begin(slots, limit=50).granted) == names(*range(111, 115))


def test_a_dispatch_is_due_when_standby_runs_low(slots: Slots) -> None:
    """Releases ask for a pass when half of standby is left, or less, and not for a queue that is known to be dry."""
    take(slots, *range(8), limit=2, standby=6)
    due = []
    for number in range(4):
        confirm(slots, f"task{number}/1", limit=2)
        due.append(release(slots, f"task{number}/1", limit=2).dispatch_due)
    assert due == [False, False, True, False]
    assert slots.end_pass(LABOURER, work_seq=begin(slots, limit=2).work_seq, dry=True)
    confirm(slots, "task4/1", limit=2)
    assert release(slots, "task4/1", limit=2) == Released(True, False, False, granted=("task6/1",))


def test_standby_is_served_in_the_order_of_the_queue(slots: Slots) -> None:
    """Whatever order they came in, the lowest greenfield is first, told apart by microseconds."""
    take(slots, 1, limit=1)
    for number in ("1795392000.000003", "1795392000.000001", "-7", "1795392000.000002"):
        take(slots, number, limit=1, standby=9)
    order = []
    held = "task1/1"
    for _ in range(4):
        (held,) = release(slots, held, limit=1).granted
        order.append(held)
    assert order == names("-7", "1795392000.000001", "1795392000.000002", "1795392000.000003")


def test_odd_greenfields_stand_by_too(slots: Slots) -> None:
    """Numbers that are large, negative or finer than microseconds are kept; their order is roughly theirs."""
    odd = ("-4000000000000000", "-0.0000001", "0.00000000000000000000001", "4000000000000000.000000001")
    take(slots, 1, limit=1)
    assert take(slots, *odd, limit=1, standby=9).standby == 4
    granted = begin(slots, limit=5).granted
    assert (granted[0], granted[-1], set(granted)) == (*names(odd[0], odd[-1]), set(names(*odd)))


def test_a_pass_begins_with_those_who_stand_by(slots: Slots) -> None:
    """Slots that became free without a hand-over go to standby first; what is free then is for rows of the queue."""
    take(slots, 1, 2, 3, limit=1, standby=2)
    view = begin(slots, limit=4)
    assert (view.granted, view.free, view.pending, view.standby) == (("task2/1", "task3/1"), 1, 3, 0)


def test_later_rows_do_not_overtake_standby(slots: Slots) -> None:
    """A slot that became free since the pass began goes to who stands by first, and the row takes a place there."""
    take(slots, 1, 3, limit=1, standby=1)
    slots.take_back(LABOURER, "task1/1")
    assert take(slots, 4, limit=1, standby=1) == Granted(names(3), 1, standby=1)
    slots.take_back(LABOURER, "task3/1")
    assert take(slots, 2, limit=1, standby=1) == Granted(names(4), 1, standby=1)
    assert release(slots, "task4/1", limit=1).granted == ("task2/1",)


def test_an_earlier_row_that_finds_a_place_goes_first(slots: Slots) -> None:
    """A retry at the head of the queue is before those that stand by, where there is a place for it."""
    take(slots, 1, 5, limit=1, standby=2)
    take(slots, 0, 5, limit=1, standby=2)
    assert release(slots, "task1/1", limit=1).granted == ("task0/1",)


def test_who_gets_a_slot_otherwise_leaves_standby(slots: Slots) -> None:
    """A late hint that takes a free slot is not granted a second one; one that is refused keeps its place."""
    take(slots, 1, 2, 3, limit=1, standby=2)
    assert confirm(slots, "task3/1", limit=1) is Confirmation.FULL
    assert slots.look(LABOURER).standby == 2
    assert confirm(slots, "task2/1", limit=2) is Confirmation.TAKEN
    assert begin(slots).granted == ("task3/1",)


def test_a_holder_with_a_lease_is_passed_over_on_standby(slots: Slots, slots_redis: redis.Redis) -> None:
    """Should somebody who has a slot stand by, it costs nobody a slot."""
    take(slots, 1, 2, limit=1, standby=1)
    slots_redis.zadd(key("standby"), {"task1/1": 0})
    assert begin(slots, limit=2).granted == ("task2/1",)
    assert slots.look(LABOURER) == Usage(2, 0, "ready")


def test_a_lowered_target_refuses_until_enough_have_left(slots: Slots) -> None:
    """When fewer shall stand by than do, no row joins them, and none of them is lost."""
    take(slots, 1, 2, 3, 4, limit=1, standby=3)
    assert take(slots, 5, limit=1, standby=2) == Granted([], 1, standby=3, refused=True)
    assert begin(slots).granted == ("task2/1", "task3/1", "task4/1")


def test_rows_on_standby_are_known_when_read_again(slots: Slots) -> None:
    """After the cursor went back to the head they are passed by as handed out, not refused nor put there twice."""
    take(slots, 1, 2, 3, limit=1, standby=2)
    slots.reset_cursor(LABOURER)
    assert cursor(slots, limit=1) is None
    assert take(slots, 1, 2, 3, limit=1, standby=2) == Granted([], 1, standby=2)
    assert cursor(slots, limit=1) == 3


def test_leases_that_ended_are_handed_over_by_a_release(slots: Slots, slots_redis: redis.Redis) -> None:
    """Slots whose lease ran out go to standby with the next release, which asks for a pass for the rows behind."""
    take(slots, 1, 2, 3, 4, 5, 6, 7, limit=3, standby=4)
    confirm(slots, "task1/1", limit=3)
    run_out(slots_redis, "task2/1")
    answer = release(slots, "task1/1", limit=3)
    assert (answer.granted, answer.dispatch_due) == (("task4/1", "task5/1"), True)
    assert slots.look(LABOURER) == Usage(3, 0, "ready", standby=2)
    assert cursor(slots, limit=3) is None


def test_taking_back_hands_nothing_over(slots: Slots) -> None:
    """Who cannot publish frees the slot and nothing else; a pass is due, because the row stands behind the cursor."""
    take(slots, 1, 2, 3, 4, limit=1, standby=3)
    assert slots.take_back(LABOURER, "task1/1") == Released(True, True, False)
    assert slots.look(LABOURER) == Usage(0, 0, "ready", standby=3)
    assert begin(slots, limit=1).granted == ("task2/1",)
    assert take(slots, 1, 3, 4, limit=1, standby=3).standby == 3


def test_nothing_is_handed_over_unless_ready(slots: Slots, slots_redis: redis.Redis) -> None:
    """While settling a freed slot stays free; what stood by when Redis lost its state is forgotten."""
    take(slots, 1, 2, limit=1, standby=1)
    slots_redis.hdel(key("state"), "ready_at")
    assert release(slots, "task1/1", limit=1).granted == ()
    slots.rebuild(LABOURER, [], limits=Limits(CAP), lease_s=60, settle_s=60)
    view = begin(slots, limit=1)
    assert (view.granted, view.standby, view.free) == ((), 0, 0)


# The rate


def limited(slots: Slots, rate: Rate | None, at: float = 1.0, ahead_s: float = 6.0) -> None:
    """Have a process start that is configured with this rate."""
    slots.begin_pass(LABOURER, limits=Limits(CAP, rate, ahead_s, at), lease_s=6, share=0.0)


def run_one(slots: Slots, holder: str) -> Start:
    """Confirm a holder and ask for its start."""
    assert slots.confirm(LABOURER, holder, lease_s=60).confirmation in (Confirmation.CONFIRMED, Confirmation.TAKEN)
    return slots.start(LABOURER, holder)


def test_a_start_is_told_when_it_may_be(slots: Slots) -> None:
    """Tokens are promised in the order in which they are asked for: at once the burst, then one each interval."""
    limited(slots, Rate(1, 2, at_once=2))
    starts = [run_one(slots, f"{name}/1") for name in "abcd"]
    assert all(start.is_granted for start in starts)
    assert [round(start.wait_s) for start in starts] == [0, 0, 2, 4]
    assert starts[0].wait_s == 0


def test_without_a_rate_nobody_waits(slots: Slots) -> None:
    """A confirmation says whether to ask at all; who asks all the same starts at once."""
    assert slots.confirm(LABOURER, "a/1", lease_s=60) == Confirmed(Confirmation.TAKEN, waits=False)
    assert slots.start(LABOURER, "a/1") == Start(True, 0)


def test_who_has_to_wait_is_told_so(slots: Slots) -> None:
    """Whatever its worker is configured with: the rate in force counts."""
    limited(slots, Rate(10))
    take(slots, 1, 2, limit=1, standby=1)
    assert slots.confirm(LABOURER, "task1/1", lease_s=60) == Confirmed(Confirmation.CONFIRMED, waits=True)
    assert slots.confirm(LABOURER, "task1/1", lease_s=60) == Confirmed(Confirmation.HELD, waits=False)
    slots.start(LABOURER, "task1/1")
    assert slots.hand_on(LABOURER, "task1/1", lease_s=60, share=share(1)).waits


def test_nobody_starts_whose_lease_is_gone(slots: Slots, slots_redis: redis.Redis) -> None:
    """Neither who lost it while it waited, nor who never had one; and no token is spent for them."""
    limited(slots, ONE_PER_HOUR)
    confirm(slots, "a/1")
    run_out(slots_redis, "a/1")
    for holder in ("a/1", "never/1"):
        assert slots.start(LABOURER, holder) == Start(False, 0, is_lost=True)
    assert run_one(slots, "b/1") == Start(True, 0)


def test_hints_are_handed_out_for_tokens_that_come_due(slots: Slots, slots_redis: redis.Redis) -> None:
    """No more have a slot and no token yet than tokens come due while a hint waits; who has started counts no more."""
    limited(slots, Rate(1, 2), ahead_s=7)
    granted = take(slots, *range(10, 20), standby=3)
    assert (granted.holders, granted.standby, granted.free) == (names(10, 11, 12, 13), 3, 0)
    assert begin(slots).free == 0
    assert slots.look(LABOURER).free == 0
    assert confirm(slots, "late/1") is Confirmation.FULL
    assert run_one(slots, "task10/1") == Start(True, 0)
    assert begin(slots).granted == (), "the token is spent, and no other one came due"
    assert slots.release(LABOURER, "task11/1", lease_s=60).granted == ("task14/1",)
    set_state(slots_redis, tat=1)
    assert begin(slots).granted == ("task15/1",)


def test_who_has_a_slot_and_no_token_yet_keeps_it_from_others(slots: Slots) -> None:
    """As many have slots as may start before long: one that waits for its token is counted until it starts or ends."""
    limited(slots, ONE_PER_HOUR)
    assert confirm(slots, "a/1") is Confirmation.TAKEN
    assert confirm(slots, "b/1") is Confirmation.FULL
    assert take(slots, 1).holders == []
    assert slots.look(LABOURER).free == 0
    release(slots, "a/1")
    assert confirm(slots, "b/1") is Confirmation.TAKEN


def test_a_slot_is_not_handed_on_before_a_token_is_in_sight(slots: Slots, slots_redis: redis.Redis) -> None:
    """Who stands by would hold it and wait; and a release asks for no pass that could do nothing either."""
    limited(slots, ONE_PER_HOUR)
    take(slots, 1, 2, standby=8)
    assert slots.end_pass(LABOURER, work_seq=begin(slots).work_seq, dry=True)
    run_one(slots, "task1/1")
    assert slots.hand_on(LABOURER, "task1/1", lease_s=60).granted == ()
    assert release(slots, "task1/1") == Released(True, False, False)
    set_state(slots_redis, tat=round(time.time() * 1000) + 5000)
    assert begin(slots).granted == ("task2/1",)
    assert 0 < run_one(slots, "task2/1").wait_s <= 5


def test_what_waits_for_its_token_and_ends_is_not_counted(slots: Slots, slots_redis: redis.Redis) -> None:
    """Whoever dies, is released or loses its lease before its start holds no token back from others."""
    limited(slots, ONE_PER_HOUR)
    for holder in ("released/1", "lost/1", "handed/1"):
        assert confirm(slots, holder) is Confirmation.TAKEN
        if holder == "lost/1":
            run_out(slots_redis, holder)
        elif holder == "released/1":
            release(slots, holder)
    assert slots.start(LABOURER, "handed/1").is_granted


def test_who_hands_its_slot_on_before_its_start_holds_no_token_back(slots: Slots) -> None:
    """The token is for who runs in the slot after it; nor does one of the two count when the slot is given back."""
    limited(slots, Rate(1, 3600, at_once=2))
    take(slots, 1, 2, limit=1, standby=1)
    confirm(slots, "task1/1", limit=1)
    assert slots.hand_on(LABOURER, "task1/1", lease_s=60, share=share(1)).granted == ("task2/1",)
    assert confirm(slots, "a/1") is Confirmation.TAKEN
    assert confirm(slots, "b/1") is Confirmation.FULL
    assert slots.hand_again(LABOURER, "task2/1", "task1/1", lease_s=60)
    assert confirm(slots, "b/1") is Confirmation.TAKEN


def test_who_ended_while_there_was_no_rate_holds_no_token_back(slots: Slots) -> None:
    """A rate that is stated again begins with those who run, not with those who waited for the one before."""
    limited(slots, ONE_PER_HOUR, at=1)
    confirm(slots, "a/1")
    limited(slots, None, at=2)
    release(slots, "a/1")
    limited(slots, ONE_PER_HOUR, at=3)
    assert run_one(slots, "b/1") == Start(True, 0)


def test_a_token_out_of_sight_is_not_promised(slots: Slots) -> None:
    """After the rate was lowered who has a slot asks again; nobody else gets one meanwhile."""
    limited(slots, Rate(1, 2), at=1)
    take(slots, 1, 2, 3)
    for number in (1, 2, 3):
        confirm(slots, f"task{number}/1")
    assert slots.start(LABOURER, "task1/1").is_granted
    limited(slots, Rate(1, 100), at=2)
    start = slots.start(LABOURER, "task2/1")
    assert not start.is_granted
    assert 90 < start.wait_s <= 101
    assert begin(slots).free == 0


def test_starts_over_time(slots: Slots) -> None:
    """Over any time, no more start than the burst and what the rate gives in it, and no fewer when somebody asks."""
    rate = Rate(100)
    limited(slots, rate)
    begin_at = time.monotonic()
    starts: list[float] = []
    # On a fast machine not for all of that time: nobody is promised a start that is many seconds ahead.
    while time.monotonic() < begin_at + 0.5 and len(starts) < 400:
        holder = f"{len(starts)}/1"
        starts.append(run_one(slots, holder).wait_s + time.monotonic())
        release(slots, holder)
    for first, start in enumerate(starts):
        later = [other for other in starts[first:] if other <= start + 0.2]
        # One is the slack for what lies between the answer and the look at the clock here.
        assert len(later) <= rate.burst + 0.2 * 100 + 1 + (time.monotonic() - begin_at > 5)
    assert starts[-1] - begin_at >= (len(starts) - rate.burst - 1) / 100


def test_a_raised_rate_forgives_the_old_debt(slots: Slots, slots_redis: redis.Redis) -> None:
    """After the setting is raised nobody waits longer than for what the old one had promised."""
    limited(slots, ONE_PER_HOUR, at=1)
    run_one(slots, "a/1")
    limited(slots, Rate(50), at=2)
    full_at = float(slots_redis.hget(key("state"), "tat") or 0) / 1000
    assert full_at - time.time() <= 6.2


def test_a_rate_that_was_lifted_leaves_no_debt_to_the_next_one(slots: Slots) -> None:
    """Between two rates there may be none: what the first one had promised for later holds nobody back by then."""
    limited(slots, ONE_PER_HOUR, at=1)
    run_one(slots, "a/1")
    limited(slots, None, at=2)
    confirm(slots, "b/1")
    limited(slots, Rate(50), at=3)
    assert slots.start(LABOURER, "b/1").wait_s <= 6.2


def test_a_changed_rate_begins_with_an_empty_bucket(slots: Slots) -> None:
    """What the old rate has promised and what the new one gives do not add up to a burst."""
    limited(slots, Rate(10, at_once=5), at=1)
    for name in "abcde":
        assert run_one(slots, f"{name}/1").wait_s == 0
    confirm(slots, "f/1")
    limited(slots, Rate(1, at_once=5), at=2)
    assert slots.start(LABOURER, "f/1").wait_s > 0.5


def test_a_changed_rate_begins_when_all_is_over_that_was_promised(slots: Slots) -> None:
    """Starts that are promised by the old rate and starts by the new one do not come at the same time."""
    limited(slots, Rate(1, 2), at=1)
    promised = [run_one(slots, f"{name}/1").wait_s for name in "abc"]
    confirm(slots, "d/1")
    limited(slots, Rate(1), at=2, ahead_s=30)
    start = slots.start(LABOURER, "d/1")
    assert start.is_granted
    assert start.wait_s > max(promised)


def test_no_token_is_there_after_a_loss(missing: Slots, slots_redis: redis.Redis) -> None:
    """Nobody knows who has just started, or was promised to: only what comes due after that is given."""
    limits = Limits(CAP, Rate(10, at_once=5), ahead_s=2)
    missing.rebuild(LABOURER, [], limits=limits, lease_s=60, settle_s=0.01)
    wait_until(lambda: missing.look(LABOURER).ready == "ready")
    assert renew(missing, "a/1") == {"a/1"}
    assert begin(missing).free == 0
    set_state(slots_redis, ready_at=round(time.time() * 1000) + 100)
    assert renew(missing, "a/1") == set()
    wait_until(lambda: missing.look(LABOURER).ready == "ready")
    assert missing.start(LABOURER, "a/1").wait_s > 0.5
    missing.forget(LABOURER)
    missing.rebuild(LABOURER, [], limits=limits, lease_s=60, settle_s=0)
    assert run_one(missing, "a/1").wait_s == 0


def test_nothing_starts_while_slots_are_not_ready(missing: Slots) -> None:
    """Who had its slot when Redis was emptied asks again until that is over."""
    assert missing.start(LABOURER, "a/1") == Start(False, 0.5)
    assert renew(missing, "a/1") == set()
    missing.rebuild(LABOURER, [], limits=Limits(CAP, ONE_PER_HOUR), lease_s=60, settle_s=60)
    assert missing.start(LABOURER, "a/1") == Start(False, 0.5)


# The limits in force


def test_the_cap_of_who_started_last_is_in_force(slots: Slots) -> None:
    """A pass of an older process changes nothing, whatever it is configured with; everybody obeys the number."""
    for at, cap, in_force in ((5, 3, 3), (4, 9, 3), (5, 9, 3), (6, 2, 2)):
        view = slots.begin_pass(LABOURER, limits=Limits(cap, at=at), lease_s=60)
        assert (view.limit, slots.look(LABOURER).cap) == (in_force, in_force)
    assert slots.look(LABOURER).limits_at == 6
    answers = [slots.confirm(LABOURER, f"{name}/1", lease_s=60).confirmation for name in "abc"]
    assert answers == [Confirmation.TAKEN, Confirmation.TAKEN, Confirmation.FULL]


def test_a_lowered_cap_is_reached_by_ends(slots: Slots) -> None:
    """Who ends hands nothing on, to nobody, until fewer run than may."""
    slots.begin_pass(LABOURER, limits=Limits(3, at=1), lease_s=60)
    slots.take(LABOURER, rows(1, 2, 3, 4, 5), lease_s=60, standby=8)
    for holder in names(1, 2, 3):
        slots.confirm(LABOURER, holder, lease_s=60)
    slots.begin_pass(LABOURER, limits=Limits(1, at=2), lease_s=60)
    assert slots.hand_on(LABOURER, "task1/1", lease_s=60).granted == ()
    assert slots.release(LABOURER, "task1/1", lease_s=60).granted == ()
    assert slots.release(LABOURER, "task2/1", lease_s=60).granted == ()
    assert slots.hand_on(LABOURER, "task3/1", lease_s=60).granted == ("task4/1",)


@pytest.mark.parametrize(
    ("cap", "part", "limit"), [(10, 0.75, 7), (100, 0.29, 29), (3, 0.0, 0), (1, 0.5, 0), (7, 1, 7)]
)
def test_health_leaves_a_share_of_the_cap(slots: Slots, cap: int, part: float, limit: int) -> None:
    """The whole part of it, of the cap in force."""
    view = slots.begin_pass(LABOURER, limits=Limits(cap, at=1), lease_s=60, share=part)
    assert (view.limit, view.free) == (limit, limit)
    assert slots.look(LABOURER, share=part).limit == limit


def test_a_rebuild_puts_its_limits_in_force(slots: Slots) -> None:
    """Nothing is known of others; one that starts later is heard again."""
    slots.begin_pass(LABOURER, limits=Limits(3, at=9), lease_s=60)
    slots.forget(LABOURER)
    slots.rebuild(LABOURER, [], limits=Limits(5, Rate(2), at=1), lease_s=60, settle_s=0)
    usage = slots.look(LABOURER)
    assert (usage.cap, usage.rate_interval_s, usage.limits_at) == (5, 0.5, 1)
    assert slots.begin_pass(LABOURER, limits=Limits(3, at=9), lease_s=60).limit == 3


# The cursor


def test_cursor_follows_the_rows_handed_out(slots: Slots) -> None:
    """The cursor stands at the last row up to which all have a lease, granted now or before."""
    assert cursor(slots) is None
    confirm(slots, "task2.5/1")
    take(slots, 1, 2, "2.5", 4, 5, limit=4)
    assert cursor(slots) == 4
    take(slots, 4, 5, limit=9)
    assert cursor(slots) == 5
    take(slots, 1, limit=9)
    assert cursor(slots) == 5


def test_cursor_stays_below_a_refused_row(slots: Slots) -> None:
    """Rows of the same greenfield are either all behind the cursor or all ahead; one that another pass skipped too."""
    take(slots, 1, limit=3)
    slots.take(LABOURER, [("a/1", Decimal(2)), ("b/1", Decimal(2))], share=share(2), lease_s=60)
    assert cursor(slots) == 1
    take(slots, 7, limit=3)
    assert cursor(slots) == 7
    take(slots, 4, limit=3)
    assert cursor(slots) is None


def test_cursor_is_exact(slots: Slots) -> None:
    """Greenfields that differ in the last of 38 digits are told apart, and come back digit by digit."""
    near = "1732320000.0000000000000000000000000001"
    take(slots, near, "1732320000.0000000000000000000000000002", limit=1)
    assert str(cursor(slots)) == near


def test_pass_from_the_head_forgets_the_cursor(slots: Slots) -> None:
    """The safety net reads all again, and what it cannot hand out is not skipped by the pass after it."""
    take(slots, 1, 2, 3)
    view = begin(slots)
    assert begin(slots, limit=10, from_head=True).cursor is None
    take(slots, 4, work_seq=view.work_seq)  # the first pass is still under way
    assert cursor(slots) is None
    slots.reset_cursor(LABOURER)
    assert cursor(slots) is None


def test_announced_rows_move_the_cursor_back(slots: Slots) -> None:
    """A row at or before the cursor is ahead of it once announced; rows at the tail do not move it."""
    take(slots, 5)
    slots.announce_work(LABOURER, None)
    slots.announce_work(LABOURER, Decimal(6))
    assert cursor(slots) == 5
    slots.announce_work(LABOURER, Decimal(5))
    assert cursor(slots) == Decimal("4.999999")
    slots.announce_work(LABOURER, Decimal(-3))
    assert cursor(slots) == Decimal("-3.000001")


def test_rows_announced_during_a_pass_are_not_skipped(slots: Slots) -> None:
    """A pass that read before a row came does not move the cursor past it."""
    view = begin(slots)
    take(slots, 1, 2, work_seq=view.work_seq)
    slots.announce_work(LABOURER, Decimal("2.5"))
    assert take(slots, 3, work_seq=view.work_seq).holders == names(3)
    assert cursor(slots) == 2


def test_lost_leases_send_the_next_pass_to_the_head(slots: Slots, slots_redis: redis.Redis) -> None:
    """When a hint's lease ran out, its row stands behind the cursor: the cursor and "dry" are forgotten."""
    take(slots, 1, 2)
    view = begin(slots)
    assert slots.end_pass(LABOURER, work_seq=view.work_seq, dry=True)
    assert slots.look(LABOURER).dry
    assert begin(slots).dry
    run_out(slots_redis, "task1/1")
    assert not slots.look(LABOURER).dry
    late = begin(slots)
    assert (late.cursor, late.dry) == (None, False)
    assert not slots.end_pass(LABOURER, work_seq=view.work_seq, dry=True)


def test_a_grant_that_is_taken_back(slots: Slots) -> None:
    """A pending lease that is released (its hint could not be published) leaves its row ahead of the next pass."""
    take(slots, 1, 2)
    slots.end_pass(LABOURER, work_seq=begin(slots).work_seq, dry=True)
    assert release(slots, "task1/1").dispatch_due
    view = begin(slots)
    assert (view.cursor, view.dry) == (None, False)


# Passes and work


def test_begin_pass_counts(slots: Slots, slots_redis: redis.Redis) -> None:
    """A pass sees live leases only, what is free, and how old the last announcement is."""
    take(slots, 1, 2, 3)
    confirm(slots, "task1/1")
    run_out(slots_redis, "task2/1")
    view = begin(slots, limit=5)
    assert (view.ready, view.free, view.pending, view.running) == ("ready", 3, 1, 1)
    assert view.work_age_s is None
    slots.announce_work(LABOURER, None)
    later = begin(slots, limit=5)
    assert later.work_age_s is not None
    assert 0 <= later.work_age_s < 5
    assert later.work_seq > view.work_seq


def test_dry_is_not_believed_too_early(slots: Slots, slots_redis: redis.Redis) -> None:
    """Dry counts only if nothing was announced since the pass began, nor so lately that the index may lag."""
    seen = begin(slots, limit=5).work_seq
    slots.announce_work(LABOURER, None)
    set_state(slots_redis, work_at=1)
    assert not slots.end_pass(LABOURER, work_seq=seen, dry=True)
    slots.announce_work(LABOURER, None)
    seen = begin(slots, limit=5).work_seq
    assert not slots.end_pass(LABOURER, work_seq=seen, dry=True)
    set_state(slots_redis, work_at=1)
    assert slots.end_pass(LABOURER, work_seq=seen, dry=True)
    assert not slots.end_pass(LABOURER, work_seq=seen, dry=False)
    assert not begin(slots, limit=5).dry


def test_a_queue_that_was_read_to_its_end_is_not_read_again_at_once(slots: Slots, slots_redis: redis.Redis) -> None:
    """Soon after an announcement, when it cannot be called dry yet, releases ask for a pass after a while only."""
    take(slots, 1, 2, 3, standby=4)
    for number in (1, 2, 3):
        confirm(slots, f"task{number}/1")
    slots.announce_work(LABOURER, None)
    view = begin(slots)
    assert not slots.end_pass(LABOURER, work_seq=view.work_seq, dry=True)
    assert not release(slots, "task1/1").dispatch_due
    set_state(slots_redis, look_at=1)
    assert release(slots, "task2/1").dispatch_due
    slots.end_pass(LABOURER, work_seq=begin(slots).work_seq, dry=True)
    slots.announce_work(LABOURER, None)
    slots.end_pass(LABOURER, work_seq=begin(slots).work_seq, dry=False)
    assert release(slots, "task3/1").dispatch_due, "new rows are read at once"


def test_the_time_is_that_of_the_server(slots: Slots) -> None:
    """Seconds since the epoch, exact to the microsecond."""
    before = slots.now()
    assert abs(float(before) - time.time()) < 5
    assert slots.now() >= before


# Sweeps


def test_idle_labourer_has_nothing_to_sweep(slots: Slots) -> None:
    """A labourer that nothing happened to shows zeros and empty sets."""
    view = slots.begin_sweep(LABOURER)
    assert (view.ready, view.closes, view.lapses) == ("ready", 0, 0)
    assert (view.next_retry_at, view.seconds_since_full_sweep) == (None, None)
    assert view.running == view.pending == frozenset()


def test_sweep_sees_what_happened_since_the_last_one(slots: Slots, slots_redis: redis.Redis) -> None:
    """Ends and lost leases are seen until a sweep dealt with them; those that come meanwhile are for the next one."""
    take(slots, 1)
    for holder in ("a/1", "b/1", "lost/1"):
        confirm(slots, holder)
    release(slots, "a/1")
    run_out(slots_redis, "lost/1")
    view = slots.begin_sweep(LABOURER)
    assert (view.closes, view.lapses) == (1, 1)
    assert (view.running, view.pending) == (frozenset({"b/1"}), frozenset(names(1)))
    release(slots, "b/1")
    slots.end_sweep(LABOURER, view.closes_seen, full=False)
    assert (slots.begin_sweep(LABOURER).closes, slots.begin_sweep(LABOURER).lapses) == (1, 1)
    slots.end_sweep(LABOURER, view.closes_seen, full=True, lapses_seen=view.lapses_seen)
    again = slots.begin_sweep(LABOURER)
    assert (again.closes, again.lapses) == (1, 0)
    assert again.seconds_since_full_sweep is not None
    assert 0 <= again.seconds_since_full_sweep < 5


def test_sweeps_overlap(slots: Slots) -> None:
    """A sweep that saw less, or saw a Redis that was flushed since, takes nothing from what a later one knows."""
    release(slots, "a/1")
    early = slots.begin_sweep(LABOURER)
    release(slots, "b/1")
    late = slots.begin_sweep(LABOURER)
    slots.end_sweep(LABOURER, late.closes_seen, full=False)
    slots.end_sweep(LABOURER, early.closes_seen, full=False)
    assert slots.begin_sweep(LABOURER).closes == 0
    slots.forget(LABOURER)
    slots.end_sweep(LABOURER, late.closes_seen, full=False)
    release(slots, "c/1")
    assert slots.begin_sweep(LABOURER).closes == 1


def test_earliest_retry_is_kept(slots: Slots) -> None:
    """Of all noted retries the earliest counts, exactly, until a sweep says what the retry table holds."""
    for due in ("1732320009.5", "1732320000.123456", "1732320001"):
        slots.note_retry(LABOURER, Decimal(due))
    assert slots.begin_sweep(LABOURER).next_retry_at == Decimal("1732320000.123456")
    slots.set_next_retry(LABOURER, Decimal(1732320009))
    assert slots.begin_sweep(LABOURER).next_retry_at == 1732320009
    slots.set_next_retry(LABOURER, None)
    assert slots.begin_sweep(LABOURER).next_retry_at is None


@pytest.mark.parametrize(
    ("found", "kept"),
    [(None, 50), (Decimal(70), 50), (Decimal(20), 20)],
    ids=["nothing", "a later one", "an earlier one"],
)
def test_retry_noted_during_a_sweep_is_not_forgotten(slots: Slots, found: Decimal | None, kept: int) -> None:
    """What a sweep read before a retry came does not replace it, whatever it found."""
    view = slots.begin_sweep(LABOURER)
    slots.note_retry(LABOURER, Decimal(50))
    slots.set_next_retry(LABOURER, found, retries_seen=view.retries_seen)
    assert slots.begin_sweep(LABOURER).next_retry_at == kept
    slots.set_next_retry(LABOURER, Decimal(80), retries_seen=slots.begin_sweep(LABOURER).retries_seen)
    assert slots.begin_sweep(LABOURER).next_retry_at == 80


# Scripts and errors


def test_scripts_are_loaded_again(slots: Slots, slots_redis: redis.Redis) -> None:
    """A server that forgot the scripts (a restart, SCRIPT FLUSH) is told them again, in a pipeline too."""
    slots_redis.script_flush()
    assert confirm(slots, "a/1") is Confirmation.TAKEN
    slots_redis.script_flush()
    assert renew(slots, "a/1") == set()


def test_answers_are_plain_values(slots: Slots) -> None:
    """Whether the client answers in bytes or text, holders are text and flags are bools."""
    take(slots, 1)
    confirm(slots, "a/1")
    assert release(slots, "a/1") == Released(True, dispatch_due=True, archive_due=False, granted=())
    answer = release(slots, "a/1")
    assert [type(value) for value in vars(answer).values()] == [bool, bool, bool, tuple, bool]
    take(slots, 2, limit=1, standby=1)
    handed_over = release(slots, "task1/1", limit=1)
    assert [type(holder) for holder in handed_over.granted] == [str]
    assert [type(holder) for holder in slots.begin_sweep(LABOURER).pending] == [str]


def test_no_server_is_unavailable() -> None:
    """Without an answer every call raises StoreUnavailable, which names the operation and keeps the cause."""
    slots = Slots(redis.Redis(port=1, retry=Retry(NoBackoff(), 0)))
    calls: dict[str, Callable[[], object]] = {
        "confirm": lambda: confirm(slots, "a/1"),
        "renew": lambda: renew(slots, "a/1"),
        "forget": lambda: slots.forget(LABOURER),
    }
    for operation, call in calls.items():
        with pytest.raises(StoreUnavailable) as raised:
            call()
        assert (raised.value.store, raised.value.operation) == ("redis", operation)
        assert isinstance(raised.value.__cause__, redis.ConnectionError)


@pytest.mark.parametrize(("setting", "value"), [("maxmemory", 1), ("min-replicas-to-write", 1)])
def test_a_server_that_cannot_write_now_is_unavailable(redis_url: str, setting: str, value: int) -> None:
    """A real server that refuses to write for now raises StoreUnavailable, and nothing was changed."""
    with redis.Redis.from_url(redis_url) as client:
        slots = Slots(client)
        slots.rebuild(LABOURER, ["a/1"], limits=Limits(CAP), lease_s=10, settle_s=0)
        client.config_set(setting, value)
        try:
            with pytest.raises(StoreUnavailable):
                renew(slots, "a/1", lease_s=60)
        finally:
            client.config_set(setting, 0)
        assert slots.holders(LABOURER)[1]["a/1"] <= 10


def test_a_wrong_key_type_is_an_error(slots: Slots, slots_redis: redis.Redis) -> None:
    """What waiting cannot cure is a StoreError, not an outage."""
    slots_redis.set(key("running"), "not a zset")
    with pytest.raises(StoreError) as raised:
        begin(slots)
    assert not isinstance(raised.value, StoreUnavailable)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "5e15", "-4.1e15", "1e40"])
def test_only_numbers_in_reach_are_sortable(text: str) -> None:
    """What would not sort is refused before it is stored."""
    with pytest.raises(ValueError, match="expected seconds or a place"):
        sortable(Decimal(text))


def test_sortable_texts_sort_as_numbers() -> None:
    """The texts are in the order of the numbers, equal numbers have equal texts, and the way back is exact."""
    numbers = [Decimal(text) for text in ("-1e14", "-7.5", "-7", "-0.1", "0", "0.05", "0.1", "9", "10", "1732320000.5")]
    texts = [sortable(number) for number in numbers]
    assert texts == sorted(texts)
    assert [unsortable(text) for text in texts] == numbers
    assert sortable(Decimal("1.50")) == sortable(Decimal("1.5"))
    assert sortable(Decimal("1.0")) == sortable(Decimal("1"))


def test_many_labourers_are_looked_at_together(slots: Slots) -> None:
    """Each answer is what a look at that one alone gives; those that nobody knows of are among them."""
    names = [LABOURER, *(f"other-{number}" for number in range(1100))]
    take(slots, 1, 2, limit=1, standby=5)
    confirm(slots, "task1/1", limit=1)
    views, usages = slots.begin_sweeps(names), slots.look_at(dict.fromkeys(names, 0.5))
    assert list(views) == list(usages) == names
    for name in (LABOURER, "other-7", "other-1099"):
        assert views[name] == slots.begin_sweep(name)
        assert usages[name] == slots.look(name)
    assert views[LABOURER].running == {"task1/1"}
    assert (usages[LABOURER].running, usages[LABOURER].standby) == (1, 1)
    assert usages["other-7"].ready == "missing"
    assert (usages[LABOURER].limit, usages[LABOURER].free) == (CAP // 2, CAP // 2 - 1)
    assert slots.begin_sweeps([]) == slots.look_at({}) == {}
