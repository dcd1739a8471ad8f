"""The slot store against a plain Python model of its rules, through any sequence of events that Hypothesis finds.

The model also knows the tasks table: which rows are queued and which are claimed. So it can state what the store is
for: the cap holds, and no queued row is ever left behind the cursor without a lease or a place on standby.

Time passes by hand only: leases are long, and a rule sets the end of one into the past.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import fakeredis
import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sosw_celery.core.rates import Rate
from sosw_celery.stores.redis.slots import Confirmation, Limits, Released, Slots
from tests.contract.shares import CAP, share

LABOURER = "resize"
LEASE_S = 100_000.0
#: Longer than any example takes.
LONG_MS = 3_600_000
ARCHIVE_EVERY = 3
ONE_TOKEN = Rate(1, 100_000)
#: Hints are handed out for tokens that are there, and no other one is in sight.
AHEAD_S = 1.0

GREENFIELDS = st.integers(0, 5)
STANDBY = st.integers(0, 3)
ATTEMPTS = st.builds("task{}/{}".format, GREENFIELDS, st.integers(1, 2))


@dataclass
class Lease:
    """A lease of the model; one that ended stays until somebody counts."""

    ended: bool = False
    lengthened: bool = False  # without a word of its node


@dataclass
class Pass:
    """A dispatch pass under way: what it saw at its beginning and has read since."""

    work_seq: int
    position: Decimal | None
    stretch: list[tuple[str, Decimal]] = field(default_factory=list)
    read_to_the_end: bool = False


@dataclass
class Model:
    """The rules of the slot store, in the plainest words."""

    limit: int
    limited: bool  # by a rate whose only token comes back by hand
    ready: str = "missing"
    token: bool = True
    pending: dict[str, Lease] = field(default_factory=dict)
    running: dict[str, Lease] = field(default_factory=dict)
    standby: dict[str, Decimal] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)  # of those that run: for their token
    standby_target: int = 0
    limits_at: int = 0
    handed_back: bool = False  # in the call under way
    cursor: Decimal | None = None
    dry: bool = False
    look_later: bool = False
    filling: bool = False  # a pass is about to fill standby up
    work_seq: int = 0
    announced_lately: bool = False
    dispatch_pending: bool = False
    closes: int = 0
    closes_swept: int = 0
    lapses: int = 0
    closing: dict[str, str] = field(default_factory=dict)  # who runs -> who ran before it in its slot

    @property
    def used(self) -> int:
        """Leases, whether ended or not."""
        return len(self.pending) + len(self.running)

    def hand_back(self) -> None:
        """A queued row may stand behind the cursor."""
        self.cursor, self.dry, self.look_later, self.handed_back = None, False, False, True
        self.work_seq += 1

    def hand_over(self, limit: int, at_most: int = 1_000_000) -> list[str]:
        """Give slots to those who stand by, the first in the queue first."""
        granted: list[str] = []
        while self.standby and self.room(limit) and len(granted) < at_most:
            holder = min(self.standby, key=lambda holder: (self.standby[holder], holder))
            del self.standby[holder]
            self.pending[holder] = Lease()
            granted.append(holder)
        return granted

    def run(self, holder: str, lease: Lease) -> None:
        """Have the holder run, or wait for the rate."""
        self.standby.pop(holder, None)
        self.running[holder] = lease
        if self.limited:
            self.waiting.add(holder)

    def start(self, holder: str) -> str:
        """Spend the token."""
        if self.ready != "ready":
            return "ask"
        if holder not in self.running or self.running[holder].ended:
            return "lost"
        if self.limited and not self.token:
            return "ask"
        self.token = False
        self.waiting.discard(holder)
        return "start"

    def handed_out(self) -> set[str]:
        """Who has a lease or stands by."""
        return {*self.pending, *self.running, *self.standby}

    def purge(self) -> None:
        """Drop what has ended."""
        ended = [
            (leases, holder) for leases in (self.pending, self.running) for holder in leases if leases[holder].ended
        ]
        self.lapses += len(ended)
        for leases, holder in ended:
            del leases[holder]
        if ended:
            self.hand_back()
            self.waiting &= self.running.keys()

    def room(self, limit: int) -> int:
        """Slots that are free, and have a token where there is a rate."""
        if self.ready != "ready":
            return 0
        tokens = self.token - len(self.pending) - len(self.waiting) if self.limited else limit
        return max(0, min(limit - self.used, tokens))

    def claim_dispatch(self) -> bool:
        """Claim the dispatch message."""
        due = not self.dispatch_pending
        self.dispatch_pending = True
        return due

    def take(self, stretch: list[tuple[str, Decimal]], work_seq: int, standby: int) -> tuple[list[str], bool]:
        """Hand out the rows, those who stand by first; return who got a slot, and whether a row was refused."""
        self.purge()
        if self.ready != "ready":
            return [], True
        self.standby_target, self.filling = standby, False
        granted = self.hand_over(self.limit)
        passed: list[Decimal] = []
        refused = None
        for holder, greenfield in stretch:
            if holder not in self.handed_out():
                self.standby[holder] = greenfield
                granted += self.hand_over(self.limit)
                if len(self.standby) > standby and self.standby.pop(holder, None) is not None:
                    refused = greenfield
                    break
            passed.append(greenfield)
        if refused is not None and self.cursor is not None and self.cursor >= refused:
            self.cursor = None
            self.work_seq += 1
        elif work_seq == self.work_seq:
            reach = [greenfield for greenfield in passed if refused is None or greenfield < refused]
            self.cursor = max([*reach, *([] if self.cursor is None else [self.cursor])], default=None)
        return granted, refused is not None

    def confirm(self, holder: str) -> Confirmation:
        """Let a worker run the holder."""
        self.purge()
        if holder in self.running:
            return Confirmation.HELD
        if self.ready != "ready":
            return Confirmation.UNREADY
        if holder in self.pending:
            lease = self.pending.pop(holder)
            if len(self.running) >= self.limit:
                self.hand_back()
                return Confirmation.FULL
            self.run(holder, lease)
            return Confirmation.CONFIRMED
        if not self.room(self.limit):
            self.hand_back()
            return Confirmation.FULL
        self.run(holder, Lease())
        return Confirmation.TAKEN

    def renew(self, holders: list[str]) -> set[str]:
        """Renew what runs, return what is lost."""
        lost = set()
        for holder in holders:
            if self.ready != "ready":
                self.running[holder] = Lease()
            elif holder not in self.running or self.running[holder].ended:
                lost.add(holder)
        return lost

    def release(self, holder: str, limit: int) -> Released:
        """Free the slot and hand it over."""
        freed = [leases.pop(holder, None) for leases in (self.running, self.pending)]
        self.closing.pop(holder, None)
        self.waiting.discard(holder)
        self.handed_back = False
        if freed[1]:
            self.hand_back()
        self.purge()
        granted = self.hand_over(limit, at_most=10)
        due = (any(freed) and self.is_low()) or self.handed_back or self.is_stuck(limit)
        return Released(any(freed), bool(due and self.claim_dispatch()), self.count_end(), tuple(granted))

    def hand_on(self, holder: str) -> Released:
        """Have the next one run in the slot of one that has ended."""
        self.handed_back = False
        self.purge()
        lease = self.running.pop(holder, None)
        granted = self.hand_over(self.limit, at_most=1) if lease else []
        if not granted:
            if lease:
                self.running[holder] = lease
            again = [after for after, before in self.closing.items() if before == holder and after in self.running]
            found = tuple(sorted(again)[:1]) if not lease else ()
            waits = bool(found) and self.limited
            return Released(bool(found), bool(self.handed_back and self.claim_dispatch()), False, found, waits)
        self.run(granted[0], self.pending.pop(granted[0]))
        self.waiting.discard(holder)
        self.closing.pop(holder, None)
        self.closing[granted[0]] = holder
        due = self.is_low() or self.handed_back or self.is_stuck(self.limit)
        return Released(True, bool(due and self.claim_dispatch()), self.count_end(), tuple(granted), self.limited)

    def hand_again(self, following: str, holder: str) -> bool:
        """Give a slot that was handed on back."""
        self.purge()
        if self.running.pop(following, None) is None:
            return False
        self.closing.pop(following, None)
        self.pending.pop(holder, None)
        self.standby.pop(holder, None)
        self.running[holder] = Lease()
        self.waiting -= {following, holder}
        self.lapses += 1
        self.hand_back()
        return True

    def is_low(self) -> bool:
        """Standby has run low, the queue may fill it up, and no pass is about to."""
        return not (self.dry or self.look_later or self.filling) and len(self.standby) * 2 <= self.standby_target

    def is_stuck(self, limit: int) -> bool:
        """Somebody stands by although there is room."""
        return bool(self.standby and self.room(limit))

    def count_end(self) -> bool:
        """Count an attempt that ended; return whether an archive sweep is due."""
        self.closes += 1
        return (self.closes - self.closes_swept) % ARCHIVE_EVERY == 0

    def alive(self) -> set[str]:
        """Who is not lost: who runs, and who is being closed by the process of one that runs."""
        return {*self.running, *(before for holder, before in self.closing.items() if holder in self.running)}


class SlotsMachine(RuleBasedStateMachine):
    """Does the same to the store and to the model, and compares every answer and all that can be seen of the state."""

    client: redis.Redis
    #: Whether the server says which life it is in; the twin does not.
    tells_its_life: bool
    passes = Bundle("passes")

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.slots = Slots(self.client, archive_every=ARCHIVE_EVERY)
        self.queue: dict[str, Decimal] = {}
        self.highest_work_seq = 0

    @initialize(limit=st.integers(1, 3), limited=st.sampled_from([False, False, True]), fresh=st.booleans())
    def begin(self, limit: int, limited: bool, fresh: bool) -> None:
        """A labourer with its settings, on an empty Redis or a ready one."""
        self.model = Model(limit, limited)
        self.cap, self.limits_at = CAP, 0
        if not fresh:
            self.rebuild([], settle=False)

    def limits(self) -> Limits:
        """What the process that makes passes is configured with."""
        return Limits(self.cap, ONE_TOKEN if self.model.limited else None, AHEAD_S, self.limits_at)

    def some_holder(self, data: st.DataObject) -> str:
        """Mostly one that has a lease or is queued."""
        known = sorted({*self.queue, *self.model.handed_out()})
        return data.draw(st.sampled_from(known) | ATTEMPTS if known else ATTEMPTS)

    def milliseconds(self) -> int:
        """The time by Redis' clock."""
        seconds, microseconds = self.client.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    def set_state(self, **fields: int) -> None:
        """Let a time pass."""
        self.client.hset(f"sosw:{{{LABOURER}}}:state", mapping=fields)  # type: ignore[arg-type]  # invariant dict

    @rule(greenfields=st.lists(GREENFIELDS, min_size=1, max_size=4, unique=True), attempt=st.integers(1, 2))
    def announce(self, greenfields: list[int], attempt: int) -> None:
        """Rows are queued, anywhere in the queue, and announced."""
        for number in greenfields:
            self.queue[f"task{number}/{attempt}"] = Decimal(number)
        lowest = Decimal(min(greenfields))
        model = self.model
        model.dry, model.look_later, model.announced_lately = False, False, True
        model.work_seq += 1
        if model.cursor is not None and lowest <= model.cursor:
            model.cursor = lowest - Decimal("0.000001")
        assert self.slots.announce_work(LABOURER, lowest) == model.claim_dispatch()

    @rule(target=passes, from_head=st.booleans())
    def begin_pass(self, from_head: bool) -> Pass:
        """An orchestrator begins a pass."""
        return self.new_pass(from_head)

    def new_pass(self, from_head: bool) -> Pass:
        """Begin a pass on both sides."""
        model = self.model
        model.purge()
        model.dispatch_pending = False
        if from_head:
            model.cursor = None
            model.work_seq += 1
        view = self.slots.begin_pass(
            LABOURER, limits=self.limits(), lease_s=LEASE_S, share=share(model.limit), from_head=from_head
        )
        assert list(view.granted) == model.hand_over(model.limit)
        if model.ready == "ready" and model.is_low():
            model.filling = True
            self.set_state(filling_until=self.milliseconds() + LONG_MS)
        assert (view.ready, view.free, view.limit) == (model.ready, model.room(model.limit), model.limit)
        assert (view.cursor, view.work_seq) == (model.cursor, model.work_seq)
        assert (view.pending, view.running, view.dry) == (len(model.pending), len(model.running), model.dry)
        assert (view.standby, view.standby_target) == (len(model.standby), model.standby_target)
        return Pass(view.work_seq, view.cursor)

    @rule(target=passes, standby=STANDBY)
    def pass_that_reads_nothing(self, standby: int) -> Pass:
        """A pass finds nothing to read, or fails to."""
        a_pass = self.new_pass(False)
        self.slots.stop_filling(LABOURER, standby)
        self.model.filling, self.model.standby_target = False, standby
        return a_pass

    @rule(a_pass=passes, size=st.integers(1, 5))
    def read(self, a_pass: Pass, size: int) -> None:
        """A pass reads the next stretch of the queue; it may take much later, or never."""
        in_order = sorted(self.queue.items(), key=lambda row: row[1])
        ahead = [row for row in in_order if a_pass.position is None or row[1] >= a_pass.position]
        # An index may cut between rows of the same number: those that are cut off are read again with the next ones.
        a_pass.stretch, a_pass.read_to_the_end = ahead[:size], len(ahead) <= size

    @rule(a_pass=passes, standby=STANDBY)
    def take(self, a_pass: Pass, standby: int) -> None:
        """A pass takes slots for what it has read."""
        stretch = a_pass.stretch
        if not stretch:
            return
        granted = self.slots.take(
            LABOURER,
            stretch,
            lease_s=LEASE_S,
            share=share(self.model.limit),
            work_seq=a_pass.work_seq,
            standby=standby,
        )
        assert (granted.holders, granted.refused) == self.model.take(stretch, a_pass.work_seq, standby)
        assert (granted.used, granted.standby) == (self.model.used, len(self.model.standby))
        assert not granted.holders or granted.used <= self.model.limit
        assert granted.free == self.model.room(self.model.limit)
        assert granted.refused or {holder for holder, _ in stretch} <= self.model.handed_out()
        if not granted.refused:
            a_pass.position = stretch[-1][1]

    @rule(target=passes, from_head=st.booleans(), size=st.integers(1, 5), standby=STANDBY)
    def pass_up_to_the_take(self, from_head: bool, size: int, standby: int) -> Pass:
        """A pass gets as far as its first take before anything else happens."""
        a_pass = self.new_pass(from_head)
        self.read(a_pass, size)
        if a_pass.stretch:
            self.take(a_pass, standby)
        return a_pass

    @rule(a_pass=consumes(passes))
    def end_pass(self, a_pass: Pass) -> None:
        """A pass ends; it says dry if it read to the end of the queue and everything there was handed out."""
        dry = a_pass.read_to_the_end and {holder for holder, _ in a_pass.stretch} <= self.model.handed_out()
        model = self.model
        model.filling = False
        if not dry:
            model.dry = False
        elif a_pass.work_seq == model.work_seq:
            model.dry = model.dry or not model.announced_lately
            model.look_later = model.look_later or model.announced_lately
        assert self.slots.end_pass(LABOURER, work_seq=a_pass.work_seq, dry=dry) == model.dry
        if model.look_later:
            self.set_state(look_at=self.milliseconds() + LONG_MS)

    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        """A worker has a hint: a fresh, late, doubled or lost-and-found one."""
        holder = self.some_holder(data)
        answer = self.slots.confirm(LABOURER, holder, lease_s=LEASE_S, share=share(self.model.limit))
        assert answer.confirmation is self.model.confirm(holder)
        assert answer.waits == (self.model.limited and answer.confirmation.value in ("confirmed", "taken"))

    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        """A worker is about to begin with the body, perhaps twice."""
        holder = self.some_holder(data)
        answer = self.slots.start(LABOURER, holder)
        expected = self.model.start(holder)
        assert (answer.is_granted, answer.is_lost) == (expected == "start", expected == "lost")

    @precondition(lambda self: self.model.running)
    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        """A worker claims the row that it has a slot for: the row leaves the queue."""
        self.queue.pop(data.draw(st.sampled_from(sorted(self.model.running))), None)

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """An attempt ends, perhaps twice, and its slot is handed over."""
        holder = self.some_holder(data)
        if holder in self.model.running:
            self.queue.pop(holder, None)
        answer = self.slots.release(LABOURER, holder, lease_s=LEASE_S, share=share(self.model.limit))
        assert answer == self.model.release(holder, self.model.limit)
        assert not answer.granted or self.model.used <= self.model.limit

    @rule(data=st.data())
    def hand_on(self, data: st.DataObject) -> None:
        """A process goes on with the next task."""
        running = sorted(self.model.running)
        holder = data.draw(st.sampled_from(running)) if running else self.some_holder(data)
        answer = self.slots.hand_on(LABOURER, holder, lease_s=LEASE_S, share=share(self.model.limit))
        assert answer == self.model.hand_on(holder)
        assert not answer.granted or self.slots.hand_on(
            LABOURER, holder, lease_s=LEASE_S, share=share(self.model.limit)
        ) == self.model.hand_on(holder)
        if answer.granted:
            self.queue.pop(holder, None)
            assert self.model.used <= self.model.limit

    @precondition(lambda self: self.model.filling)
    @rule()
    def pass_was_not_heard_of(self) -> None:
        """A pass that was about to fill standby up has died."""
        self.model.filling = False
        self.set_state(filling_until=1)

    @precondition(lambda self: self.model.ready == "ready" and self.queue)
    @rule(target=passes, data=st.data())
    def run_and_hand_on(self, data: st.DataObject) -> Pass:
        """A worker takes up a hint of a pass, with others on standby, and goes on; by chance alone that is rare."""
        a_pass = self.pass_up_to_the_take(from_head=True, size=5, standby=3)
        if self.model.pending:
            holder = min(self.model.pending)
            answer = self.slots.confirm(LABOURER, holder, lease_s=LEASE_S, share=share(self.model.limit))
            assert answer.confirmation is self.model.confirm(holder)
            if self.model.limited:
                assert self.slots.start(LABOURER, holder).is_granted == (self.model.start(holder) == "start")
                self.token_comes()
            self.hand_on(data)
        return a_pass

    @precondition(lambda self: self.model.closing)
    @rule(data=st.data())
    def hand_again(self, data: st.DataObject) -> None:
        """The one that handed its slot on could not be closed."""
        following = data.draw(st.sampled_from(sorted(self.model.closing)))
        holder, used = self.model.closing[following], self.model.used
        answer = self.slots.hand_again(LABOURER, following, holder, lease_s=LEASE_S)
        assert answer == self.model.hand_again(following, holder)
        assert self.model.used <= used  # a slot changes hands; the limit may lie below by now

    @precondition(lambda self: self.model.pending)
    @rule(data=st.data())
    def take_back(self, data: st.DataObject) -> None:
        """A grant's hint could not be published."""
        holder = data.draw(st.sampled_from(sorted(self.model.pending)))
        assert self.slots.take_back(LABOURER, holder) == self.model.release(holder, 0)

    @rule(data=st.data(), count=st.integers(1, 3))
    def renew(self, data: st.DataObject, count: int) -> None:
        """A node reports what it runs, rightly or not."""
        holders = list({self.some_holder(data) for _ in range(count)})
        lost = self.slots.renew({LABOURER: holders}, lease_s=LEASE_S)
        assert {holder for _, holder in lost} == self.model.renew(holders)

    @rule()
    def renew_pending(self) -> None:
        """The safety net finds the hints waiting in the broker's queue."""
        live = [lease for lease in self.model.pending.values() if not lease.ended]
        assert self.slots.renew_pending(LABOURER, lease_s=LEASE_S) == len(live)

    @rule(holders=st.lists(ATTEMPTS, max_size=3, unique=True), settle=st.booleans())
    def rebuild(self, holders: list[str], settle: bool) -> None:
        """An orchestrator rebuilds what is missing, or was missing when it looked."""
        model = self.model
        missing = model.ready == "missing"
        done = self.slots.rebuild(
            LABOURER, holders, limits=self.limits(), lease_s=LEASE_S, settle_s=LEASE_S if settle else 0
        )
        assert done == missing
        if missing:
            model.running.update({holder: Lease() for holder in holders})
            model.hand_back()
            model.standby.clear()
            model.token = not settle
            model.work_seq = int(self.client.hget(f"sosw:{{{LABOURER}}}:state", "work_seq") or 0)
            assert model.work_seq > self.highest_work_seq, (
                "a pass from before the flush must not be taken for one of now"
            )
            model.ready = "settling" if settle else "ready"

    @rule()
    def sweep(self) -> None:
        """The scavenger looks and deals with the ended attempts."""
        model = self.model
        model.purge()
        view = self.slots.begin_sweep(LABOURER)
        assert (view.ready, set(view.running), set(view.pending)) == (model.ready, model.alive(), {*model.pending})
        model.closing = {holder: before for holder, before in model.closing.items() if holder in model.running}
        assert (view.closes, view.lapses) == (model.closes - model.closes_swept, model.lapses)
        self.slots.end_sweep(LABOURER, view.closes_seen, full=False)
        model.closes_swept = model.closes

    @precondition(lambda self: self.model.used)
    @rule(data=st.data())
    def lease_ends(self, data: st.DataObject) -> None:
        """Nobody renewed a lease in time."""
        leases = {**self.model.pending, **self.model.running}
        holder = data.draw(st.sampled_from(sorted(leases)))
        leases[holder].ended = True
        for what in ("pending", "running"):
            end = 1.5 if leases[holder].lengthened else 1
            self.client.zadd(f"sosw:{{{LABOURER}}}:{what}", {holder: end}, xx=True)

    @rule()
    def nobody_asks_for_long(self) -> None:
        """Or the clock goes ahead, or Redis stands still: leases last until nodes can renew them, but once only."""
        if self.model.ready == "missing":
            return
        self.set_state(seen_at=self.milliseconds() - round(LEASE_S * 600))
        if self.model.ready == "ready":
            self.set_state(ready_at=1)
        for leases in (self.model.pending, self.model.running):
            for lease in leases.values():
                if lease.ended and not lease.lengthened:
                    lease.ended, lease.lengthened = False, True

    @rule()
    def clock_goes_back(self) -> None:
        """All times go back with it, so nothing has changed."""
        self.set_state(seen_at=self.milliseconds())
        state = f"sosw:{{{LABOURER}}}:state"
        times = ("ready_at", "limits_at", "work_at", "filled_at", "filling_until", "look_at", "dispatch_until", "tat")
        for name in (*times, "full_sweep_at", "seen_at"):
            if self.client.hexists(state, name):
                self.client.hincrbyfloat(state, name, LONG_MS)
        for what in ("pending", "running"):
            for holder in self.client.zrange(f"sosw:{{{LABOURER}}}:{what}", 0, -1):
                self.client.zincrby(f"sosw:{{{LABOURER}}}:{what}", LONG_MS, holder)

    @precondition(lambda self: self.model.ready == "settling")
    @rule()
    def settle_time_ends(self) -> None:
        """The time for nodes to report is over."""
        self.model.ready = "ready"
        self.set_state(ready_at=1)

    @precondition(lambda self: self.model.announced_lately)
    @rule()
    def index_catches_up(self) -> None:
        """The last announcement is long ago."""
        self.model.announced_lately = False
        self.set_state(work_at=1)

    @precondition(lambda self: self.model.look_later)
    @rule()
    def time_to_look_again_comes(self) -> None:
        """The queue was read to its end a while ago."""
        self.model.look_later = False
        self.set_state(look_at=1)

    @precondition(lambda self: self.model.dispatch_pending)
    @rule()
    def dispatch_message_is_lost(self) -> None:
        """A dispatch message did not arrive in its time."""
        self.model.dispatch_pending = False
        self.set_state(dispatch_until=1)

    @precondition(lambda self: not self.model.token)
    @rule()
    def token_comes(self) -> None:
        """The rate allows the next start."""
        self.model.token = True
        self.set_state(tat=1)

    @rule(limit=st.integers(0, 3))
    def health_changes(self, limit: int) -> None:
        """More or fewer attempts may run from now on; those that do are not touched."""
        self.model.limit = limit

    @precondition(lambda self: self.model.ready != "missing")
    @rule(later=st.booleans(), data=st.data())
    def another_process_is_configured_otherwise(self, later: bool, data: st.DataObject) -> None:
        """It puts its cap in force if it started later; until one does, passes of others change nothing."""
        limits = Limits(2 * CAP, self.limits().rate, AHEAD_S, self.limits_at + 1 if later else self.limits_at - 1)
        self.model.purge()
        view = self.slots.begin_pass(LABOURER, limits=limits, lease_s=LEASE_S, share=0.0)
        assert (view.limit, view.granted) == (0, ())
        self.model.dispatch_pending = False
        if self.model.ready == "ready" and self.model.is_low():
            self.model.filling = True
            self.set_state(filling_until=self.milliseconds() + LONG_MS)
        assert self.slots.look(LABOURER).cap == (2 * CAP if later else CAP)
        if later:
            self.limits_at += 2
            self.slots.begin_pass(LABOURER, limits=self.limits(), lease_s=LEASE_S, share=0.0)

    @precondition(lambda self: self.model.ready == "ready")
    @rule()
    def flush(self) -> None:
        """Redis loses everything; passes that are under way go on."""
        self.client.flushall()
        self.forget_all()

    def forget_all(self) -> None:
        """All that was known is lost, or counts as lost."""
        self.highest_work_seq = max(self.highest_work_seq, self.model.work_seq)
        # Numbers begin at the time in milliseconds; here a rebuild may follow the one before within the same one.
        while self.milliseconds() <= self.highest_work_seq:
            pass
        self.model = Model(self.model.limit, self.model.limited)

    @precondition(lambda self: self.model.ready == "ready" and self.tells_its_life)
    @rule()
    def another_life(self) -> None:
        """Redis comes back with what it knew some time ago, or a replica with what it had heard of."""
        self.client.hset(f"sosw:{{{LABOURER}}}:state", "life", "another one")
        self.forget_all()

    @invariant()
    def counts_agree(self) -> None:
        """Looking shows the same leases on both sides, none of which has ended."""
        if not hasattr(self, "model"):
            return
        model = self.model
        live = [
            {holder for holder, lease in leases.items() if not lease.ended} for leases in (model.pending, model.running)
        ]
        pending, running = self.slots.holders(LABOURER)
        assert [pending.keys(), running.keys()] == live
        usage = self.slots.look(LABOURER, share=share(model.limit))
        assert (usage.pending, usage.running, usage.ready) == (len(live[0]), len(live[1]), model.ready)
        assert usage.standby == len(model.standby)
        assert usage.dry == (model.dry and sum(map(len, live)) == model.used)

    @invariant()
    def no_row_is_left_behind(self) -> None:
        """Every queued row before the cursor has a lease or stands by, an ended lease until somebody counts.

        Passes read from the cursor on, rows of the same number included.
        """
        if not hasattr(self, "model") or self.model.cursor is None:
            return
        behind = {holder for holder, greenfield in self.queue.items() if greenfield < self.model.cursor}
        assert behind <= self.model.handed_out()

    @invariant()
    def who_waits_runs(self) -> None:
        """Nobody is counted as waiting for the rate that has no running lease, ended or not."""
        if hasattr(self, "model"):
            assert self.model.waiting <= self.model.running.keys()

    @invariant()
    def no_holder_twice(self) -> None:
        """Nobody has two slots, unless it ran when Redis lost its memory; nor does who has one stand by."""
        if hasattr(self, "model"):
            model = self.model
            assert len(model.handed_out()) == model.used + len(model.standby)


@pytest.mark.parametrize("slots_redis", ["twin", "real, text"], indirect=True)
def test_store_follows_the_model(slots_redis: redis.Redis) -> None:
    """In any order of events the store answers as the model of its rules, and leaves no queued row behind."""
    is_real = not isinstance(slots_redis, fakeredis.FakeRedis)
    # The twin reads a script anew for each call, which takes ten times as long as the real one's answer.
    options: dict[str, Any] = {"max_examples": 100 if is_real else 15, "stateful_step_count": 40, "deadline": None}
    machine_settings = settings(**options, suppress_health_check=list(HealthCheck))
    machine = type("SlotsMachineHere", (SlotsMachine,), {"client": slots_redis, "tells_its_life": is_real})
    run_state_machine_as_test(machine, settings=machine_settings)
