"""Many processes on a real Redis: the cap is kept at every instant, measured by those who hold the slots.

Every worker writes down from when to when it had a slot, by the machine's monotonic clock, which all its processes
share. It counts itself as running from the answer that gave it the slot until it asks to release it, or until the
earliest time at which its lease can have ended: a worker that was stopped longer than that has lost its slot.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby

import pytest
import redis

from sosw_celery.stores.redis.slots import Confirmation, Limits, Slots, Usage
from tests.harness.overlap import most_at_once

LABOURER = "resize"
LEASE_S = 0.2
TASKS = 120
HINTS, DONE, HELD, ALL_IN_USE = "hints", "done", "held", "all in use"

Span = tuple[str, float, float]


@dataclass(frozen=True)
class Plan:
    """One run of the test."""

    url: str
    cap: int
    seed: int


def dispatch(plan: Plan) -> None:
    """Hand out tasks as an orchestrator does, until all are done."""
    chance = random.Random(plan.seed)
    with redis.Redis.from_url(plan.url, decode_responses=True) as client:
        slots = Slots(client)
        done: set[str] = set()
        while len(done) < TASKS:
            done = client.smembers(DONE)
            open_tasks = [(str(number), Decimal(number)) for number in range(TASKS) if str(number) not in done]
            granted = slots.take(LABOURER, open_tasks[: plan.cap * 3], lease_s=LEASE_S, standby=plan.cap)
            publish(client, granted.holders, chance)


def publish(client: redis.Redis, holders: Sequence[str], chance: random.Random) -> None:
    """Put hints on the queue; some are lost, some doubled."""
    hints = [holder for holder in holders for _ in range(chance.choice((0, 1, 1, 1, 1, 1, 1, 2)))]
    if hints:
        client.rpush(HINTS, *hints)


def work(plan: Plan, spans: multiprocessing.SimpleQueue[list[Span]]) -> None:
    """Take up hints as a worker does, until all is done; some attempts crash, some are renewed while they run."""
    chance = random.Random(plan.seed)
    held: list[Span] = []
    with redis.Redis.from_url(plan.url, decode_responses=True) as client:
        slots = Slots(client)
        while client.scard(DONE) < TASKS:
            hint = client.blpop([HINTS], timeout=0.05)
            if hint:
                held.extend(run(slots, client, str(hint[1]), plan.cap, chance))
    spans.put(held)


def run(slots: Slots, client: redis.Redis, holder: str, cap: int, chance: random.Random) -> Iterator[Span]:
    """Run one attempt; yield when it had its slot."""
    asked = time.monotonic()
    answer = slots.confirm(LABOURER, holder, lease_s=LEASE_S).confirmation
    if answer not in (Confirmation.CONFIRMED, Confirmation.TAKEN):
        return
    begin, lease_end = time.monotonic(), asked + LEASE_S
    lease_end = hold_until_all_are_in_use(slots, client, holder, cap, lease_end)
    if chance.random() < 0.05:
        yield holder, begin, lease_end  # a crash: nobody releases
        return
    time.sleep(chance.uniform(0, 0.004))
    asked = time.monotonic()
    if chance.random() < 0.5 and not slots.renew({LABOURER: [holder]}, lease_s=LEASE_S):
        lease_end = asked + LEASE_S
        time.sleep(chance.uniform(0, 0.002))
    end = time.monotonic()
    yield holder, begin, min(end, lease_end)
    if end < lease_end:
        client.sadd(DONE, holder)
    released = slots.release(LABOURER, holder, lease_s=LEASE_S)
    publish(client, released.granted, chance)


def hold_until_all_are_in_use(slots: Slots, client: redis.Redis, holder: str, cap: int, lease_end: float) -> float:
    """Keep the slot until each of them was held at one instant, once in a test; return the end of its lease."""
    while not client.exists(ALL_IN_USE):
        client.zadd(HELD, {holder: lease_end})
        if client.zcount(HELD, time.monotonic(), "inf") >= cap:
            client.set(ALL_IN_USE, 1)
        asked = time.monotonic()
        if slots.renew({LABOURER: [holder]}, lease_s=LEASE_S):
            break
        lease_end = asked + LEASE_S
    return lease_end


@contextlib.contextmanager
def ended_in_any_case(processes: list[multiprocessing.process.BaseProcess]) -> Iterator[None]:
    """Start the processes, and leave none behind."""
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join(5)


@pytest.mark.parametrize("cap", [2, 3])
def test_cap_holds_at_every_instant(redis_url: str, cap: int) -> None:
    """Two orchestrators and four workers, lost and doubled hints, crashes: never more than the cap, and all is done."""
    plans = [Plan(redis_url, cap, seed=seed) for seed in range(6)]
    context = multiprocessing.get_context("spawn")
    spans: multiprocessing.SimpleQueue[list[Span]] = context.SimpleQueue()
    with redis.Redis.from_url(redis_url) as client:
        slots = Slots(client)
        slots.rebuild(LABOURER, [], limits=Limits(cap), lease_s=LEASE_S, settle_s=0)
        workers = [context.Process(target=work, args=(plan, spans)) for plan in plans[:4]]
        dispatchers = [context.Process(target=dispatch, args=(plan,)) for plan in plans[4:]]
        with ended_in_any_case([*workers, *dispatchers]):
            held = [span for _ in workers for span in spans.get()]
            for process in (*workers, *dispatchers):
                process.join(20)
                assert process.exitcode == 0
        assert {holder for holder, _, _ in held} == {str(number) for number in range(TASKS)}
        most = most_at_once((start, end) for _, start, end in held)
        assert most == cap, "never more than the cap, and at some instant all of it is used"
        by_holder = groupby(sorted(held), key=lambda span: span[0])
        of_each = {most_at_once((start, end) for _, start, end in its_spans) for _, its_spans in by_holder}
        assert of_each == {1}
        wait_until_free(slots)


def used(usage: Usage) -> int:
    """Return how many slots are in use; tasks that are done may still stand by."""
    return usage.pending + usage.running


def wait_until_free(slots: Slots) -> None:
    """Return when the last lease has run out."""
    end = time.monotonic() + 10 * LEASE_S
    while used(slots.look(LABOURER)):
        assert time.monotonic() < end, "leases outlive their time"
        time.sleep(0.01)
