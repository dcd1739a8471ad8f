"""The slot store on real servers that come back with old data, change places, or whose clock jumps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
import redis

from sosw_celery.errors import StoreUnavailable
from sosw_celery.local import RedisServer
from sosw_celery.stores.redis.client import connect
from sosw_celery.stores.redis.slots import Confirmation, Limits, Slots
from tests.faults.injectors.clocks import IS_AVAILABLE
from tests.faults.injectors.tcp_proxy import TcpProxy
from tests.redis_lives import SnapshotRedis, WrongRedis, demote, follow

LABOURER = "resize"

Pair = tuple[RedisServer, RedisServer]


def confirm(slots: Slots, holder: str) -> Confirmation:
    """Have a worker confirm the holder; there are two slots."""
    return slots.confirm(LABOURER, holder, lease_s=60).confirmation


def ready(client: redis.Redis) -> Slots:
    """A slot store that is ready for the labourer `resize`."""
    slots = Slots(client)
    slots.rebuild(LABOURER, [], limits=Limits(2), lease_s=60, settle_s=0)
    return slots


@pytest.fixture
def snapshots(tmp_path: Path) -> Iterator[SnapshotRedis]:
    """A Redis that can come back with a snapshot."""
    with SnapshotRedis(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two servers that know nothing of each other yet."""
    with RedisServer() as one, RedisServer() as other:
        yield one, other


def test_an_old_snapshot_counts_as_lost(snapshots: SnapshotRedis) -> None:
    """Who got a slot since the snapshot is not in it: nothing starts, and no lease is gone, until nodes have told."""
    with redis.from_url(snapshots.url) as client:
        slots = ready(client)
        confirm(slots, "ended/1")
        slots.note_retry(LABOURER, Decimal(5))
        client.save()
        slots.release(LABOURER, "ended/1", lease_s=60)
        assert {confirm(slots, holder) for holder in ("a/1", "b/1")} == {Confirmation.TAKEN}
        snapshots.come_back()
        assert slots.look(LABOURER).ready == "missing"
        assert confirm(slots, "c/1") is Confirmation.UNREADY
        assert slots.begin_pass(LABOURER, limits=Limits(2), lease_s=60).ready == "missing"
        assert slots.begin_sweep(LABOURER).seconds_since_full_sweep is None
        assert slots.renew({LABOURER: ["a/1", "b/1"]}, lease_s=60) == set()
        assert slots.rebuild(LABOURER, ["a/1"], limits=Limits(2), lease_s=60, settle_s=0)
        assert set(slots.holders(LABOURER)[1]) == {"a/1", "b/1"}
        assert confirm(slots, "c/1") is Confirmation.FULL


@pytest.mark.parametrize("call", ["renew", "release", "hand_on", "take", "confirm"])
def test_every_call_sees_that_redis_is_another_one(snapshots: SnapshotRedis, call: str) -> None:
    """Whoever asks first after the restart: nobody is granted anything, and no lease is said to be gone."""
    with redis.from_url(snapshots.url) as client:
        slots = ready(client)
        slots.take(LABOURER, [("a/1", Decimal(1)), ("b/1", Decimal(2))], lease_s=60, standby=1)
        confirm(slots, "a/1")
        client.save()
        snapshots.come_back()
        calls = {
            "renew": lambda: slots.renew({LABOURER: ["new/1"]}, lease_s=60),
            "release": lambda: set(slots.release(LABOURER, "a/1", lease_s=60).granted),
            "hand_on": lambda: set(slots.hand_on(LABOURER, "a/1", lease_s=60).granted),
            "take": lambda: set(slots.take(LABOURER, [("c/1", Decimal(3))], lease_s=60).holders),
            "confirm": lambda: {confirm(slots, "b/1")} - {Confirmation.UNREADY},
        }
        assert calls[call]() == set()
        assert slots.look(LABOURER).ready == "missing"


def test_a_replica_that_became_the_primary_counts_as_lost(pair: Pair) -> None:
    """It may not have heard of the last writes of the one before it."""
    primary, replica = pair
    with redis.from_url(primary.url) as old, redis.from_url(replica.url) as new:
        confirm(ready(old), "a/1")
        follow(primary, replica)
        demote(primary, replica)
        promoted = Slots(new)
        assert promoted.look(LABOURER).ready == "missing"
        assert confirm(promoted, "b/1") is Confirmation.UNREADY


def test_a_call_that_meets_a_demoted_primary_goes_to_the_new_one(pair: Pair) -> None:
    """After a fail-over the address leads elsewhere, but old connections live on: they are let go of."""
    primary, replica = pair
    with TcpProxy(primary.port) as address, connect(f"redis://127.0.0.1:{address.port}/0") as client:
        slots = ready(client)
        assert confirm(slots, "a/1") is Confirmation.TAKEN
        follow(primary, replica)
        demote(primary, replica)
        with pytest.raises(StoreUnavailable):
            confirm(slots, "b/1")
        address.target = replica.port
        assert slots.renew({LABOURER: ["a/1"]}, lease_s=60) == set()
        assert confirm(slots, "b/1") is Confirmation.UNREADY
        assert slots.rebuild(LABOURER, [], limits=Limits(2), lease_s=60, settle_s=0)
        assert set(slots.holders(LABOURER)[1]) == {"a/1"}


def test_a_call_is_made_at_the_new_primary_at_once(pair: Pair) -> None:
    """Where the address leads to the new primary already, the first call succeeds, with a script or without."""
    primary, replica = pair
    with TcpProxy(primary.port) as address, connect(f"redis://127.0.0.1:{address.port}/0") as client:
        slots = ready(client)
        confirm(slots, "a/1")
        follow(primary, replica)
        address.target = replica.port
        for call in (
            lambda: confirm(slots, "b/1"),
            lambda: client.set("key", "kept"),
        ):
            demote(primary, replica)
            call()
            primary, replica = replica, primary
            address.target = replica.port
        assert client.get("key") == b"kept"


@pytest.mark.skipif(not IS_AVAILABLE, reason="libfaketime is not made for this machine")
def test_leases_outlive_a_clock_that_really_jumps(tmp_path: Path) -> None:
    """A minute ahead and ten minutes back: who runs keeps its slot, and who died holds it no longer than a lease."""
    with WrongRedis(tmp_path) as server, redis.from_url(server.url) as client:
        slots = Slots(client)
        slots.rebuild(LABOURER, [], limits=Limits(2), lease_s=8, settle_s=0)
        for holder in ("a/1", "dead/1"):
            assert slots.confirm(LABOURER, holder, lease_s=8).confirmation is Confirmation.TAKEN
        before = slots.now()
        server.set_clock(60)
        assert 59 < slots.now() - before < 70
        assert confirm(slots, "b/1") is Confirmation.FULL
        assert slots.renew({LABOURER: ["a/1"]}, lease_s=8) == set()
        server.set_clock(-540)
        assert slots.now() < before
        assert confirm(slots, "b/1") is Confirmation.FULL
        end = time.monotonic() + 20
        while not slots.renew({LABOURER: ["dead/1"]}, lease_s=0.001):
            assert time.monotonic() < end, "a lease lasts longer than it is to"
            assert slots.renew({LABOURER: ["a/1"]}, lease_s=8) == set()
            time.sleep(0.1)
        assert confirm(slots, "b/1") is Confirmation.TAKEN
