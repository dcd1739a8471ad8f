"""The slots of each labourer and who holds them, in Redis.

A labourer has as many slots in the whole cluster as its cap is. The cap and the rate that are in force stand here too,
and everybody obeys them: they are those of the essentials process that started last, or of who rebuilt a missing store.
What a caller brings is the share of the cap that the labourer's health leaves it.

A slot in use is a lease: a holder (the text `task_id/attempt`) and an end. A `pending` lease says that a hint was
published and no worker took it up yet, a `running` one that a worker runs the attempt; both count against the cap.
Those that stand by hold no slot: they come next in the queue and are known here already, so that the very call that
frees a slot gives it to the first of them. Every decision is one Lua script (`lua/*.lua`), so it is atomic, costs one
round trip, and goes by one clock: the server's. Each script's header says what it takes, promises and returns.

Keys of one labourer; they share a hash tag, so a cluster keeps them on one node. None of them expires by itself: give
Redis a `maxmemory-policy` that does not evict them (`noeviction` or `volatile-*`). Everything in them can be lost: then
`ready_at` is missing too, nothing is granted, and `rebuild` makes them anew from the tasks table. What is found there
in another life of the server (it was started again with a snapshot, or is a replica that became the primary) counts as
lost: the last writes may be missing in it. Every script looks for that first, and for jumps of the server's clock: no
lease ends for them, nor lasts longer.

| key                            | holds                                | until                        |
| ------------------------------ | ------------------------------------ | ---------------------------- |
| `PREFIX:{LABOURER_ID}:pending` | holders; score: end of the lease, ms | confirmed, released, run out |
| `PREFIX:{LABOURER_ID}:running` | holders; score: end of the lease, ms | released, run out            |
| `PREFIX:{LABOURER_ID}:standby` | holders; score: greenfield in us     | they get a lease             |
| `PREFIX:{LABOURER_ID}:closing` | holder -> the one before it          | the holder's lease is gone   |
| `PREFIX:{LABOURER_ID}:waiting` | holders that run, but for their body | their start, or the end of   |
|                                | that waits for the rate (a set)      | the lease                    |
| `PREFIX:{LABOURER_ID}:state`   | the fields below                     | Redis is flushed             |

| field            | holds                                              | until                                        |
| ---------------- | -------------------------------------------------- | -------------------------------------------- |
| `life`           | `run_id` of the server that all of this is of      | the server has another one                   |
| `seen_at`        | time at which somebody asked last, ms              | a tenth of a second later                    |
| `lease_ms`       | how long a running lease lasts                     | Redis is flushed                             |
| `ready_at`       | time from which slots are granted, ms              | Redis is flushed                             |
| `cap`            | how many may run at once                           | a process starts that has another one        |
| `interval_ms`    | from one start to the next by the rate; 0: none    | likewise                                     |
| `burst`          | how many may start at once after a pause           | likewise                                     |
| `ahead_ms`       | hints are handed out for tokens due within so long | likewise                                     |
| `limits_at`      | start of the process whose configuration that is   | likewise                                     |
| `cursor`         | place up to which all queued rows were handed out  | a pass from the head, a row handed back      |
| `dry`            | 1: every queued row was handed out                 | rows are announced or handed back            |
| `standby_target` | how many may stand by                              | the next pass takes                          |
| `work_seq`       | changes when rows may have come behind the cursor  | Redis is flushed                             |
| `work_at`        | time of the last announcement, ms                  | the next one                                 |
| `filled_at`      | time at which the last pass filled standby up, ms  | the next pass takes                          |
| `filling_until`  | until then a pass is filling standby up            | it has, or has ended                         |
| `look_at`        | until then the end of the queue is not read again  | rows are announced or handed back            |
| `dispatch_until` | until then a dispatch message is on its way, ms    | a pass begins; 5 s                           |
| `tat`            | time at which the rate's bucket is full again, ms  | the next token is spent                      |
| `next_retry_at`  | when the earliest retry is due                     | a sweep replaces it                          |
| `retries`        | times that a retry was noted                       | Redis is flushed                             |
| `closes`         | attempts that ended                                | Redis is flushed                             |
| `lapses`         | leases that ran out                                | Redis is flushed                             |
| `closes_swept`   | as many of them a sweep has dealt with             | Redis is flushed                             |
| `lapses_swept`   | as many of them a sweep has dealt with             | Redis is flushed                             |
| `full_sweep_at`  | time of the last sweep that read everything, ms    | the next one                                 |

A start is paid for by a token of the rate, spent by a call of its own right before the body (`start`). Until then the
holder waits, with its slot and its task; hints are handed out for tokens that come due while they wait.

A row is handed out when it gets a lease or a place on standby. It is handed back when its lease runs out, when it is
released without having been confirmed, or when its worker finds no slot. Who stands by may be out of date (the row is
claimed by now, or gone): the claim in the table decides, as with every hint. The scores of standby are doubles: exact
for greenfields of 6 decimals up to 9 * 10^9; beyond that the order among those who stand by is roughly theirs. The
cursor and `next_retry_at` are texts that sort as their numbers do, exact to the last digit (`sortable`).
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal, cast

from sosw_celery.core.exact import EXACT, MICROSECOND
from sosw_celery.core.rates import Rate
from sosw_celery.stores.redis.errors import translated
from sosw_celery.stores.redis.replies import decoded

if TYPE_CHECKING:
    from redis import Redis
    from redis.client import Pipeline

__all__ = [
    "Confirmation",
    "Confirmed",
    "Granted",
    "Limits",
    "PassView",
    "Readiness",
    "Released",
    "Slots",
    "Start",
    "SweepView",
    "Usage",
    "sortable",
    "unsortable",
]

Readiness = Literal["ready", "settling", "missing"]

SCRIPTS = (
    "announce_work",
    "begin_pass",
    "begin_sweep",
    "confirm",
    "end_pass",
    "end_sweep",
    "hand_again",
    "hand_on",
    "holders",
    "look",
    "note_close",
    "note_retry",
    "rebuild",
    "release",
    "renew",
    "renew_pending",
    "reset_cursor",
    "set_next_retry",
    "start",
    "stop_filling",
    "take",
)

logger = logging.getLogger(__name__)

#: The keys of a labourer, as scripts get them.
KEYS = ("pending", "running", "state", "standby", "closing", "waiting")

#: What `rebuild.lua` answers where the server does not say which life it is in.
LIFE_UNKNOWN = 2

#: Makes every number a positive one of as many digits.
SORTABLE_OFFSET = Decimal(5 * 10**15)
SORTABLE_DIGITS = 16
#: Labourers that are looked at in one call: Redis does nothing else meanwhile, and a script takes some 20 us of it.
LABOURERS_PER_CALL = 500
#: Less than any step between two rows of a queue.
BEFORE = Decimal("0.000001")


class Confirmation(enum.Enum):
    """What became of a worker's wish to run the attempt of a hint."""

    CONFIRMED = "confirmed"  # the pending lease is running now
    TAKEN = "taken"  # there was no lease, a free slot was taken
    HELD = "held"  # it is running already: drop the hint, and do not release
    FULL = "full"  # no slot left, no token soon, or the cap was lowered: drop the hint, a later pass finds the row
    UNREADY = "unready"  # missing or settling: drop the hint, a later pass finds the row


@dataclass(frozen=True)
class Confirmed:
    """What became of it, and whether the holder has to wait for the rate: `start` tells how long."""

    confirmation: Confirmation
    waits: bool = False


@dataclass(frozen=True)
class Start:
    """When a body may start.

    Parameters:
        is_granted: After `wait_s`, at once then: a later start would meet the next one. Else ask again after that time.
        is_lost: Never: its lease is gone.
    """

    is_granted: bool
    wait_s: float
    is_lost: bool = False


@dataclass(frozen=True)
class Limits:
    """What a process is configured with for a labourer.

    Parameters:
        ahead_s: Hints are handed out for tokens of the rate that come due within so many seconds.
        at: When the process started, seconds since the epoch by Redis' clock.
    """

    slots: int
    rate: Rate | None = None
    ahead_s: float = 6.0
    at: float = 0.0

    def as_args(self) -> tuple[int, float, int, int, int]:
        """Return the arguments of scripts: cap, interval of the rate in ms or 0, burst, ms ahead, start in ms."""
        interval_ms, burst = (0.0, 1) if self.rate is None else (self.rate.interval_s * 1000, self.rate.burst)
        return self.slots, interval_ms, burst, _ms(self.ahead_s), round(self.at * 1000)


@dataclass(frozen=True)
class PassView:
    """A labourer at the beginning of a dispatch pass.

    Parameters:
        ready: Slots are granted only when `ready`.
        limit: How many may run now, by the cap in force and the caller's share of it.
        granted: Holders that stood by and got a pending lease now; they are counted as pending.
        free: Slots that the pass may hand out after that, 0 unless ready; no more than tokens come due soon.
        standby: How many stand by.
        standby_target, filled_s_ago: How many were to stand by when the last pass filled it up, and the seconds since
            then; 0 and None if none did.
        cursor: Read on from this greenfield (the row at it has been handed out, others with the same number perhaps
            not); None is the head.
        work_seq: Hand it to `take` and `end_pass`.
        work_age_s: Seconds since rows were last announced, None if they never were.
        dry: Every queued row had a lease or stood by when the last pass ended, and none was announced or handed back
            since.
    """

    ready: Readiness
    free: int
    pending: int
    running: int
    cursor: Decimal | None
    work_seq: int
    work_age_s: float | None
    dry: bool
    standby: int = 0
    granted: tuple[str, ...] = ()
    standby_target: int = 0
    filled_s_ago: float | None = None
    limit: int = 0

    @property
    def is_low(self) -> bool:
        """Whether half of standby is used up, or more."""
        return self.standby * 2 <= self.standby_target


@dataclass(frozen=True)
class Granted:
    """What a pass was granted.

    Parameters:
        holders: Those that were given a lease now, first in the queue first: of those asked for, and of those that
            stood by. Holders that had a lease already are not among them.
        used: Slots in use after that, pending and running.
        standby: How many stand by after that.
        refused: Not all that were asked for have a lease or stand by.
        free: Slots that may be handed out after that.
    """

    holders: list[str]
    used: int
    standby: int = 0
    refused: bool = False
    free: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Released:
    """What is to be done after a slot was freed.

    Parameters:
        released: The holder had a lease.
        dispatch_due: Send a dispatch for the labourer; nobody else was told to.
        archive_due: Send an archive sweep for the labourer.
        granted: Holders that stood by and got a pending lease now: publish their hints.
        waits: The one that the slot was handed on to has to wait for the rate.
    """

    released: bool
    dispatch_due: bool
    archive_due: bool
    granted: tuple[str, ...] = ()
    waits: bool = False


@dataclass(frozen=True)
class SweepView:
    """What happened to a labourer since the last sweeps.

    Parameters:
        closes: Attempts that ended and no sweep has dealt with; a few too many are possible, too few only after Redis
            lost data.
        lapses: Running leases that ran out and no sweep has dealt with: their tasks are lost, look for them.
        closes_seen, lapses_seen: Hand them to `end_sweep`.
        retries_seen: Hand it to `set_next_retry`.
        next_retry_at: When the earliest retry is due, seconds since the epoch; None if none is known.
        seconds_since_full_sweep: None if there was none since Redis was empty.
        running: Holders whose running lease has not ended, and those before them that are being closed.
        pending: Holders whose pending lease has not ended.
    """

    ready: Readiness
    closes: int
    lapses: int
    closes_seen: int
    lapses_seen: int
    retries_seen: int
    next_retry_at: Decimal | None
    seconds_since_full_sweep: float | None
    running: frozenset[str]
    pending: frozenset[str]


@dataclass(frozen=True)
class Usage:
    """Slots in use right now, and how many stand by; `dry`, `limit` and `free` as in `PassView`.

    Parameters:
        cap: In force; 0 while missing.
        rate_interval_s: Of the rate in force; 0: there is none.
        limits_at: Start of the process whose configuration is in force, as `Limits.at`.
    """

    pending: int
    running: int
    ready: Readiness
    dry: bool = False
    standby: int = 0
    limit: int = field(default=0, compare=False)
    free: int = field(default=0, compare=False)
    cap: int = field(default=0, compare=False)
    rate_interval_s: float = field(default=0.0, compare=False)
    limits_at: float = field(default=0.0, compare=False)


def sortable(number: Decimal) -> str:
    """Return a text for the number, such that texts sort as their numbers do. Exact, up to 4 * 10^15 either way.

    Lua would compare and print such numbers as doubles and lose digits.
    """
    text = f"{EXACT.add(number, SORTABLE_OFFSET):f}"
    whole, _, fraction = text.partition(".")
    if len(whole) != SORTABLE_DIGITS or not whole.isdigit():
        raise ValueError(f"expected seconds or a place in a queue, got {number}")
    fraction = fraction.rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole


def unsortable(text: str) -> Decimal:
    """Return the number that `sortable` made the text of."""
    return EXACT.subtract(Decimal(text), SORTABLE_OFFSET)


class Slots:
    """Grants slots, keeps their leases, and remembers how far each labourer's queue was handed out.

    Granting, confirming, renewing and releasing are idempotent per holder: repeating a call takes no second slot and
    frees no other. Every method raises `StoreUnavailable` when Redis does not answer or cannot write now (whether the
    call took effect is unknown: repeat it) and `StoreError` when it refuses. One object serves all threads.

    Parameters:
        redis_client: With or without `decode_responses`. Nothing is sent before the first call.
        prefix: Begins every key.
        archive_every: Every how many ended attempts `release` asks for an archive sweep.
    """

    def __init__(self, redis_client: Redis, *, prefix: str = "sosw", archive_every: int = 500) -> None:
        self._redis = redis_client
        self._prefix = prefix
        self._archive_every = archive_every
        self._scripts = {name: _script(redis_client, name) for name in SCRIPTS}

    # Dispatch passes

    def begin_pass(
        self, labourer_id: str, *, limits: Limits, lease_s: float, share: float = 1.0, from_head: bool = False
    ) -> PassView:
        """Give free slots to those who stand by, and tell what is free after that.

        From now on a release or new work makes a dispatch due again.

        Parameters:
            limits: Put in force if they are of the process that started last.
            lease_s: Of the pending leases.
            share: Of the cap that the labourer's health leaves it, 0 to 1.
            from_head: Also forget the cursor: the safety net's way to find rows whose hint was lost.
        """
        reply = self._call("begin_pass", labourer_id, share, _ms(lease_s), int(from_head), *limits.as_args())
        ready, limit, free, pending, running, standby, cursor, work_seq, work_age_ms, dry, *more = reply
        standby_target, filled_ms_ago, granted = more
        return PassView(
            ready=_readiness(ready),
            limit=limit,
            free=free,
            pending=pending,
            running=running,
            cursor=_optional_number(cursor),
            work_seq=work_seq,
            work_age_s=_optional_seconds(work_age_ms),
            dry=bool(dry),
            standby=standby,
            granted=_texts(granted),
            standby_target=standby_target,
            filled_s_ago=_optional_seconds(filled_ms_ago),
        )

    def take(
        self,
        labourer_id: str,
        holders: Sequence[tuple[str, Decimal]],
        *,
        lease_s: float,
        share: float = 1.0,
        work_seq: int | None = None,
        standby: int = 0,
    ) -> Granted:
        """Hand out a stretch of the queue: pending leases as far as there are free slots, then places on standby.

        Atomic: two passes never get the last slot both, nor one holder twice. Nothing is handed out unless ready. Those
        that stand by already come before later rows; an earlier row (a retry at the head of the queue) goes before them
        if it gets a place, and after a few of them if there is none. The cursor moves on to the last row up to which
        all are handed out now.

        Parameters:
            holders: Holder and greenfield of rows that stand one after another in the queue, lowest greenfield first;
                the first stretch from the view's cursor on, the next one from where the last one ended.
            share: As for `begin_pass`.
            work_seq: `PassView.work_seq`. If rows were announced or handed back since, the pass may not have read them
                all, and the cursor does not move on. None moves it in any case.
            standby: How many may stand by. When half of them have got their slot, `release` asks for more.
        """
        if not holders:
            usage = self.look(labourer_id, share=share)
            return Granted([], usage.pending + usage.running, usage.standby, free=usage.free)
        stretch = [
            text for holder, place in holders for text in (holder, sortable(place), f"{EXACT.scaleb(place, 6):.0f}")
        ]
        seen = "" if work_seq is None else work_seq
        reply = self._call("take", labourer_id, share, _ms(lease_s), standby, seen, *stretch)
        used, standing_by, refused, free, granted = reply
        return Granted(list(_texts(granted)), used, standing_by, bool(refused), free)

    def stop_filling(self, labourer_id: str, standby: int) -> None:
        """End what a pass began that found standby low, whether it has filled it up or not.

        Parameters:
            standby: How many may stand by.
        """
        self._call("stop_filling", labourer_id, standby)

    def end_pass(self, labourer_id: str, *, work_seq: int, dry: bool, index_lag_s: float = 5.0) -> bool:
        """Remember whether everything in the queue was handed out; return whether it is known to be dry from here on.

        Dry is believed only if no row was announced or handed back since the pass began, nor within `index_lag_s`
        before now: the table's index may not have shown it.
        """
        return bool(self._call("end_pass", labourer_id, work_seq, int(dry), _ms(index_lag_s)))

    def announce_work(self, labourer_id: str, lowest_greenfield: Decimal | None = None) -> bool:
        """Note that rows were queued; return whether the caller is the one to send a dispatch.

        Parameters:
            lowest_greenfield: Of the new rows. The cursor goes back to before it; None leaves the cursor alone.
        """
        places = ("", "")
        if lowest_greenfield is not None:
            places = sortable(lowest_greenfield), sortable(EXACT.subtract(lowest_greenfield, BEFORE))
        return bool(self._call("announce_work", labourer_id, *places))

    def reset_cursor(self, labourer_id: str) -> None:
        """Have the next pass read from the head of the queue."""
        self._call("reset_cursor", labourer_id)

    # A worker's steps

    def confirm(self, labourer_id: str, holder: str, *, lease_s: float, share: float = 1.0) -> Confirmed:
        """Let the holder run, if it has a pending lease or a slot is free, and fewer run than may.

        Never said CONFIRMED or TAKEN twice while the lease lives: of two workers with the same hint one gets HELD. So
        does the one whose first answer was lost on the way; its lease then runs out and the task is found again.

        Parameters:
            share: As for `begin_pass`.
        """
        answer, waits = self._call("confirm", labourer_id, share, _ms(lease_s), holder)
        return Confirmed(Confirmation(decoded(answer)), bool(waits))

    def start(self, labourer_id: str, holder: str) -> Start:
        """Spend a token of the rate for the holder's body, and tell when it may start. Asking twice spends two.

        Starts are granted in the order in which they are asked for. In any t seconds at most burst + t / interval of
        them are, whatever was handed out before.
        """
        answer, wait_ms = self._call("start", labourer_id, holder)
        return Start(decoded(answer) == "start", float(wait_ms) / 1000, decoded(answer) == "lost")

    def renew(self, holders_by_labourer: Mapping[str, Sequence[str]], *, lease_s: float) -> set[tuple[str, str]]:
        """Lengthen the running leases of a node; return the (labourer_id, holder) whose lease is gone.

        Those must stop running: their slot may be another's by now. While the store is missing or settling no lease is
        reported as gone; a missing one is made anew, because what nodes report is then what is known.

        One round trip for all labourers (and one to see that Redis has the script); each labourer is atomic by itself.
        """
        asked = [(labourer_id, list(holders)) for labourer_id, holders in holders_by_labourer.items() if holders]
        if not asked:
            return set()
        with translated("renew"):
            pipeline = self._redis.pipeline(transaction=False)
            for labourer_id, holders in asked:
                self._scripts["renew"](self._keys(labourer_id), [_ms(lease_s), *holders], pipeline)
            replies = pipeline.execute()
        return {(asked[index][0], decoded(holder)) for index, reply in enumerate(replies) for holder in reply}

    def extend(self, labourer_id: str, holder: str, *, lease_s: float) -> bool:
        """Lengthen one running lease, as `renew` does; return whether the holder has it (still)."""
        return not self.renew({labourer_id: [holder]}, lease_s=lease_s)

    def release(self, labourer_id: str, holder: str, *, lease_s: float, share: float = 1.0) -> Released:
        """Free the holder's slot, give it to who stands by first, and say what is due next.

        Whoever is told to publish or to send something has to do so. What is granted and not published is free again
        after `lease_s`; `take_back` frees it at once. A dispatch that was not sent is due again after 5 s.

        A dispatch is due when no dispatch message is on its way and standby has run low with a queue that is not known
        to be dry, or a row was handed back, or there was room for more than the 10 that one call hands over.

        Parameters:
            lease_s: Of the pending leases.
            share: As for `begin_pass`.
        """
        args = (share, _ms(lease_s), holder, self._archive_every)
        released, dispatch_due, archive_due, granted = self._call("release", labourer_id, *args)
        return Released(bool(released), bool(dispatch_due), bool(archive_due), _texts(granted))

    def hand_on(self, labourer_id: str, holder: str, *, lease_s: float, share: float = 1.0) -> Released:
        """Have who stands by first run at once, in the slot of a holder whose run has ended and is to be closed now.

        What is granted is one holder with a running lease, or none, and then the slot is the holder's still. The ended
        run counts as alive as long as the next one has the slot.

        Parameters:
            lease_s: Of the running lease.
            share: As for `begin_pass`.
        """
        args = (share, _ms(lease_s), holder, self._archive_every)
        following, dispatch_due, archive_due, waits = self._call("hand_on", labourer_id, *args)
        granted = (decoded(following),) if following else ()
        return Released(bool(granted), bool(dispatch_due), bool(archive_due), granted, bool(granted and waits))

    def hand_again(self, labourer_id: str, following: str, holder: str, *, lease_s: float) -> bool:
        """Give a slot that `holder` handed on to `following` back to it, since it could not be closed.

        Returns whether it has the slot; else the lease was lost meanwhile.
        """
        return bool(self._call("hand_again", labourer_id, _ms(lease_s), following, holder))

    def take_back(self, labourer_id: str, holder: str) -> Released:
        """Free the slot of a grant whose hint could not be published: `release` that hands nothing over."""
        return self.release(labourer_id, holder, lease_s=0, share=0.0)

    def note_close(self, labourer_id: str) -> bool:
        """Note that an attempt was closed and keeps its slot; return whether a sweep is due."""
        return bool(self._call("note_close", labourer_id, self._archive_every))

    # Safety net and scavenger

    def renew_pending(self, labourer_id: str, *, lease_s: float) -> int:
        """Lengthen every pending lease that has not ended; return how many there are."""
        return int(self._call("renew_pending", labourer_id, _ms(lease_s)))

    def rebuild(
        self, labourer_id: str, holders: Sequence[str], *, limits: Limits, lease_s: float, settle_s: float
    ) -> bool:
        """Make a missing store ready, `settle_s` from now; return False, having done nothing, if it is not missing.

        Parameters:
            holders: The attempts that the tasks table says are running. They get leases beside those that nodes
                reported since the store went missing.
            limits: Put in force.
            settle_s: Seconds in which nodes may report more. Longer than the time between two renewals, unless nothing
                can be running; then the rate's bucket is full, too.
        """
        settle_ms = _ms(settle_s) if settle_s > 0 else 0
        done = self._call("rebuild", labourer_id, _ms(lease_s), settle_ms, *limits.as_args(), *holders)
        if done == LIFE_UNKNOWN:
            logger.warning(
                "redis does not tell its run_id (INFO server): a restart with an old snapshot goes unnoticed"
            )
        return bool(done)

    def note_retry(self, labourer_id: str, due: Decimal) -> None:
        """Note that a task waits for its retry, due at these seconds since the epoch; the earliest one is kept."""
        self._call("note_retry", labourer_id, sortable(due))

    def set_next_retry(self, labourer_id: str, due: Decimal | None, *, retries_seen: int | None = None) -> None:
        """Replace the earliest due time by what the retry table holds; None if it holds nothing.

        Parameters:
            retries_seen: From the `SweepView` before the table was read: if a retry was noted since, an earlier time
                that is known stays. None replaces it in any case.
        """
        text = "" if due is None else sortable(due)
        self._call("set_next_retry", labourer_id, text, "" if retries_seen is None else retries_seen)

    def begin_sweep(self, labourer_id: str) -> SweepView:
        """Tell what happened since the last sweeps: an idle labourer needs no look into the tables."""
        return _sweep_view(self._call("begin_sweep", labourer_id))

    def begin_sweeps(self, labourer_ids: Collection[str]) -> dict[str, SweepView]:
        """Do `begin_sweep` for many labourers, in few round trips."""
        calls: Mapping[str, Sequence[float]] = dict.fromkeys(labourer_ids, ())
        return {name: _sweep_view(reply) for name, reply in self._call_for_each("begin_sweep", calls)}

    def end_sweep(self, labourer_id: str, closes_seen: int, *, full: bool, lapses_seen: int | None = None) -> None:
        """Note what a sweep has dealt with. Two sweeps at once, or one that ends twice, do no harm.

        Parameters:
            closes_seen: `SweepView.closes_seen`: every attempt that had ended by then is archived.
            full: The sweep read the tables from end to end, whatever the counters said.
            lapses_seen: `SweepView.lapses_seen` if the sweep looked for lost tasks, else None.
        """
        self._call("end_sweep", labourer_id, closes_seen, "" if lapses_seen is None else lapses_seen, int(full))

    # Looking

    def now(self) -> Decimal:
        """Return the time of Redis' server in seconds since the epoch, which is one for all nodes."""
        with translated("now"):
            seconds, microseconds = self._redis.time()
        return EXACT.fma(microseconds, MICROSECOND, seconds)

    def look(self, labourer_id: str, *, share: float = 1.0) -> Usage:
        """Count the leases that have not ended, changing none.

        Parameters:
            share: As for `begin_pass`.
        """
        return _usage(self._call("look", labourer_id, share))

    def look_at(self, shares: Mapping[str, float]) -> dict[str, Usage]:
        """Do `look` for many labourers, each with its share of its cap, in few round trips."""
        calls = {name: (share,) for name, share in shares.items()}
        return {name: _usage(reply) for name, reply in self._call_for_each("look", calls)}

    def holders(self, labourer_id: str) -> tuple[dict[str, float], dict[str, float]]:
        """List who holds pending and who running leases, with the seconds left, the first to end first."""
        pending, running = self._call("holders", labourer_id)
        return _seconds_left(pending), _seconds_left(running)

    def forget(self, labourer_id: str) -> None:
        """Delete everything known of the labourer; for tests and tools, while none of its tasks runs."""
        with translated("forget"):
            self._redis.delete(*self._keys(labourer_id))

    def _keys(self, labourer_id: str) -> list[str]:
        base = f"{self._prefix}:{{{labourer_id}}}"
        return [f"{base}:{what}" for what in KEYS]

    def _call(self, name: str, labourer_id: str, *args: str | int | float) -> Any:
        with translated(name):
            return self._scripts[name](self._keys(labourer_id), args, None)

    def _call_for_each(self, name: str, calls: Mapping[str, Sequence[float]]) -> Iterator[tuple[str, Any]]:
        """Yield a script's answer for each labourer, called with its arguments; each is atomic by itself."""
        names = list(calls)
        for start in range(0, len(names), LABOURERS_PER_CALL):
            some = names[start : start + LABOURERS_PER_CALL]
            with translated(name):
                pipeline = self._redis.pipeline(transaction=False)
                for labourer_id in some:
                    self._scripts[name](self._keys(labourer_id), calls[labourer_id], pipeline)
                replies = pipeline.execute()
            yield from zip(some, replies, strict=True)


_RunScript = Callable[[Sequence[str], Sequence[Any], "Pipeline | None"], Any]


def _script(client: Redis, name: str) -> _RunScript:
    """Return the script, sent by its hash and loaded again by itself where Redis does not know it."""
    folder = resources.files("sosw_celery.stores.redis") / "lua"
    text = "\n".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in ("common", name))
    return cast(_RunScript, client.register_script(text))


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _texts(values: Sequence[str | bytes]) -> tuple[str, ...]:
    return tuple(map(decoded, values))


def _readiness(value: str | bytes) -> Readiness:
    return cast(Readiness, decoded(value))


def _sweep_view(reply: Sequence[Any]) -> SweepView:
    ready, counts, swept, next_retry, full_age_ms, running, pending = reply
    closes_seen, lapses_seen, retries_seen = counts
    return SweepView(
        ready=_readiness(ready),
        closes=closes_seen - swept[0],
        lapses=lapses_seen - swept[1],
        closes_seen=closes_seen,
        lapses_seen=lapses_seen,
        retries_seen=retries_seen,
        next_retry_at=_optional_number(next_retry),
        seconds_since_full_sweep=_optional_seconds(full_age_ms),
        running=frozenset(map(decoded, running)),
        pending=frozenset(map(decoded, pending)),
    )


def _usage(reply: Sequence[Any]) -> Usage:
    pending, running, ready, dry, standby, limit, free, cap, interval_ms, limits_at_ms = reply
    return Usage(
        pending,
        running,
        _readiness(ready),
        bool(dry),
        standby,
        limit,
        free,
        cap,
        float(interval_ms) / 1000,
        limits_at_ms / 1000,
    )


def _optional_number(value: str | bytes) -> Decimal | None:
    return unsortable(decoded(value)) if value else None


def _optional_seconds(milliseconds: int) -> float | None:
    return None if milliseconds < 0 else milliseconds / 1000


def _seconds_left(flat: Sequence[Any]) -> dict[str, float]:
    return {decoded(holder): left / 1000 for holder, left in zip(flat[::2], flat[1::2], strict=True)}
