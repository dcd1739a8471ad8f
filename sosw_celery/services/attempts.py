"""One attempt from its hint to its close: slot, claim, and the outcome that is written exactly once."""

from __future__ import annotations

import json
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

from sosw_celery.clock import steady
from sosw_celery.config.settings import Settings
from sosw_celery.core.tasks.model import Attempt, Hint, Task
from sosw_celery.core.tasks.retrying import Dead, Retry, decide
from sosw_celery.core.tasks.storable import TooLarge, entries, storable_entries, text_of, type_name
from sosw_celery.errors import ContentRefused, RetryLater, StoreError, StoreUnavailable, TransitionRefused
from sosw_celery.services.hint_publisher import HintPublisher
from sosw_celery.services.ports import Clock, Messenger
from sosw_celery.stores.dynamodb.task_table import Failure, TaskTable
from sosw_celery.stores.redis.slots import Confirmation, Released, Slots
from sosw_celery.text import cut_to_bytes

__all__ = ["Attempts", "Outcome", "Run", "describe"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Bytes of an error's text that are kept on the row.
ERROR_BYTES = 2048
#: Bytes of stats and results that are kept on the row, as DynamoDB counts them.
OUTCOME_BYTES = 200_000
#: Bytes of them that are looked at, to tell how large they are.
LOOKED_AT_BYTES = 1_000_000
#: Bytes that DynamoDB takes of a row, and those of them that are left to what the ends of its attempts and the archive
#: add to it: times, counts, the last error, the status.
ROW_BYTES, END_BYTES = 400 * 1024, 6 * 1024
#: Says that stats and results were left out, and why.
DROPPED = "result_dropped"


@dataclass
class Run:
    """One attempt while it runs: its task, and what the worker's code has counted and found so far."""

    task: Task
    #: Steady time before its slot was asked for: until when it may rely on it counts from there.
    slot_from: float = 0.0
    #: Whether its body has to wait for the rate.
    waits: bool = False
    stats: defaultdict[str, Any] = field(default_factory=lambda: defaultdict(int))
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def attempt(self) -> Attempt:
        """What fences the close of this run."""
        return self.task.current_attempt

    def event(self) -> dict[str, Any]:
        """Return what the worker's code is called with: the payload, and the task's ids where it has none of its own.

        Raises:
            ValueError: The payload is not the JSON text of an object.
        """
        payload = json.loads(self.task.payload)
        if not isinstance(payload, dict):
            raise ValueError(f"expected the JSON text of an object, got {type(payload).__name__}")
        ids = {"task_id": self.task.task_id, "labourer_id": self.task.labourer_id, "job_id": self.task.job_id}
        return {**ids, "attempts": self.task.attempts, **payload}

    def outcome(self, returned: object = None, stats: object = None) -> Outcome:
        """Return the stats and results so far, with what the code returned: a dict's entries, else as `value`.

        Raises nothing, whatever they are.

        Parameters:
            stats: Instead of those of the run.
        """
        own = entries(self.stats if stats is None else stats, "stats")
        result = entries(self.result, "result")
        if returned is not None:
            result |= entries(returned, "value")
        return Outcome(own, result, room_beside(self.task))


class Outcome:
    """What an attempt leaves on its row: each stat as `stat_NAME`, each result as `result_NAME`.

    Made storable here, once, when the body ends: what its code does to the values after that changes nothing. Results
    that there is no room for are replaced by a word about that, and so are stats.

    Parameters:
        stats, result: Of any keys and values.
        room: Bytes that the row has left for them.
    """

    def __init__(
        self, stats: Mapping[Any, Any] | None = None, result: Mapping[Any, Any] | None = None, room: int = OUTCOME_BYTES
    ) -> None:
        self._attributes = _attributes(stats or {}, result or {}, min(room, OUTCOME_BYTES))

    @staticmethod
    def of(attributes: Mapping[str, Any]) -> Outcome:
        """Return the outcome of attributes that are what a table can keep."""
        outcome = Outcome()
        outcome._attributes = dict(attributes)
        return outcome

    def __repr__(self) -> str:
        return f"Outcome({sorted(self._attributes)})"  # without what they say, which is their author's

    def attributes(self) -> Mapping[str, Any]:
        """Return the attributes of the row, as a table can keep them."""
        return self._attributes

    def dropped(self, why: str) -> Outcome:
        """Return a word about this outcome instead of it."""
        return Outcome.of({DROPPED: f"stats and results are left out: {why}"} if self._attributes else {})


def _attributes(stats: Mapping[Any, Any], result: Mapping[Any, Any], room: int) -> dict[str, Any]:
    kept, size = _sized(stats, "stat_")
    if size > room:
        return {DROPPED: f"{_said(size)} bytes of stats, and the results, exceed the {room} that the row has left"}
    room -= size
    found, size = _sized(result, "result_")
    if size > room:
        return kept | {DROPPED: f"{_said(size)} bytes of results exceed the {room} that the row has left"}
    return kept | found


def _sized(found: Mapping[Any, Any], prefix: str) -> tuple[dict[str, Any], int]:
    """Return entries as attributes, and their size; of those that are far too large no more is looked at."""
    try:
        made, left = storable_entries(found, prefix, LOOKED_AT_BYTES)
    except TooLarge:
        return {}, LOOKED_AT_BYTES + 1
    return made, LOOKED_AT_BYTES - left


def _said(size: int) -> str:
    return str(size) if size <= LOOKED_AT_BYTES else f"more than {LOOKED_AT_BYTES}"


def room_beside(task: Task) -> int:
    """Return the bytes that the row of a running task leaves to stats and results."""
    own = (task.task_id, task.labourer_id, task.job_id, task.arn, task.payload)
    left = ROW_BYTES - END_BYTES - sum(len(text.encode("utf-8", "replace")) for text in own)
    try:
        return storable_entries(task.extra, "", left)[1]
    except TooLarge:
        return 0


def describe(error: BaseException | str) -> str:
    """Return the type and message of an error, cut to what a row keeps. Raises nothing, whatever its `__str__` does."""
    text = error if isinstance(error, str) else f"{type_name(error)}: {text_of(error)}"
    return cut_to_bytes(text, ERROR_BYTES)


class Attempts:
    """Begins and ends attempts. Every end is fenced by the attempt's number; then its slot goes to the next task.

    Parameters:
        node: Who claims, for the row's `claimed_by`.
        job_ended: Called with a job's id after one of its tasks died.
        shared_clock: Tells retries when they are due: a node may be minutes fast. By default `clock`.
        share_of: Gives the share of its cap that a labourer's health leaves it, 0 to 1; by default all of it.
    """

    def __init__(
        self,
        settings: Settings,
        task_table: TaskTable,
        slots: Slots,
        *,
        node: str,
        hints: HintPublisher,
        messenger: Messenger,
        job_ended: Callable[[str], object],
        clock: Clock,
        chance: Callable[[], float] = random.random,
        steady: Callable[[], float] = steady,
        shared_clock: Clock | None = None,
        share_of: Callable[[str], float] = lambda _: 1.0,
    ) -> None:
        self._settings = settings
        self._share_of = share_of
        self._task_table = task_table
        self._slots = slots
        self._node = node
        self._hints = hints
        self._messenger = messenger
        self._job_ended = job_ended
        self._clock = clock
        self._chance = chance
        self._steady = steady
        self._shared_clock = shared_clock or clock

    def begin(self, hint: Hint) -> Run | None:
        """Take up a hint: slot first, then the claim. Return None when the attempt is not ours to run.

        What took nearly as long as a lease is given up: an attempt that is claimed by then is found lost.

        Raises:
            StoreUnavailable: Nothing runs; the lease ends by itself and the task is found again.
        """
        attempt = hint.attempt
        share = self._share_of(attempt.labourer_id)
        asked_at = self._steady()
        confirmed = self._slots.confirm(
            attempt.labourer_id, attempt.holder, lease_s=self._settings.lease_s, share=share
        )
        if confirmed.confirmation not in (Confirmation.CONFIRMED, Confirmation.TAKEN):
            logger.info("hint dropped: slot %s", confirmed.confirmation.value, extra={"holder": attempt.holder})
            return None
        try:
            task = self._task_table.claim(attempt, now=self._clock(), node=self._node)
        except TransitionRefused as refused:
            logger.info("hint dropped: %s", refused)
            task = None
        return self._begun(attempt, task, asked_at, waits=confirmed.waits)

    def _begun(self, attempt: Attempt, task: Task | None, asked_at: float, *, waits: bool) -> Run | None:
        """Return the run of an attempt that got a slot, if it has claimed its task and can rely on the slot."""
        if self._steady() > asked_at + self._settings.patience_s:
            # This node stood still, or the table for all: by now the lease may be another worker's, with the same hint.
            logger.warning("hint dropped: its lease may have ended", extra={"holder": attempt.holder})
            return None
        if task is None:
            self.free(attempt)
            return None
        return Run(task, asked_at, waits)

    def complete(self, attempt: Attempt, outcome: Outcome, *, keep_slot: bool = False) -> None:
        """Close the attempt as completed and free its slot. Closing twice, or too late, changes nothing.

        Parameters:
            keep_slot: The body goes on: another call, when it has ended, frees the slot.

        Raises:
            StoreUnavailable: Whether the close took effect is unknown; repeat it.
        """
        self._close(attempt, outcome)
        if not keep_slot:
            self.free(attempt)
        elif self._slots.note_close(attempt.labourer_id):
            self._tell(self._messenger.request_sweep, attempt.labourer_id)

    def go_on(self, attempt: Attempt, outcome: Outcome, be_at: Callable[[Attempt], None]) -> Run | None:
        """Complete the attempt, and begin the one that its slot is given to: its body runs next in this process.

        Returns None where nobody stands by, or the next one is not ours to run; then the slot is free or given on.

        Parameters:
            be_at: Notes whose lease this process has from now on.

        Raises:
            StoreUnavailable: Whether the close took effect is unknown; repeat it. The slot is its own still.
        """
        attributes, asked_at = outcome.attributes(), self._steady()
        handed = self._hand_on(attempt)
        try:
            if not handed.granted:
                self.complete(attempt, outcome)
                return None
            following = Attempt.from_holder(attempt.labourer_id, handed.granted[0])
            claimer, now = self._task_table.claimer(self._node), self._clock()
            be_at(following)
            try:
                moved = self._task_table.complete_and_claim(
                    attempt, following, now=now, outcome=attributes, claimer=claimer
                )
                if not moved.closed:
                    self._close(attempt, outcome)
            except Exception:
                be_at(attempt)
                self._slots.hand_again(
                    attempt.labourer_id, following.holder, attempt.holder, lease_s=self._settings.lease_s
                )
                raise
            return self._begin_claimed(following, moved.claimed, asked_at, now, claimer, waits=handed.waits)
        finally:
            # Not before: a broker may take its time, and until here nobody knows whose lease this process has.
            self._tell_due(attempt.labourer_id, handed)

    def fail(
        self,
        attempt: Attempt,
        error: BaseException | str,
        outcome: Outcome | None = None,
        wanted_delay_s: float | None = None,
    ) -> Retry | Dead | None:
        """End the attempt as failed and free its slot; return what becomes of the task, None if it was refused.

        Parameters:
            wanted_delay_s: Wait that was asked for, where the error does not say so itself, as `RetryLater` does.

        Raises:
            StoreUnavailable: Whether the end took effect is unknown; repeat it.
        """
        wanted = error.delay_s if isinstance(error, RetryLater) else wanted_delay_s
        policy = self._settings.labourer(attempt.labourer_id).retry_policy
        verdict = decide(policy, attempt.number, self._chance(), wanted)
        return self._end(attempt, verdict, error, outcome)

    def bury(self, attempt: Attempt, error: BaseException | str) -> None:
        """End the attempt as dead, whatever tries are left: the task cannot run at all."""
        self._end(attempt, Dead(), error, None)

    def free(self, attempt: Attempt) -> None:
        """Give the attempt's slot to the next task that stands by, and send the dispatch or the sweep that is due.

        A broker that refuses is logged and no error: the attempt has ended, and the safety net makes up for what was
        not sent.
        """
        labourer_id = attempt.labourer_id
        released = self._slots.release(
            labourer_id, attempt.holder, lease_s=self._settings.hint_lease_s, share=self._share_of(labourer_id)
        )
        granted = [Hint(Attempt.from_holder(labourer_id, holder)) for holder in released.granted]
        refused = bool(granted) and not self._hand_over(labourer_id, granted)
        self._tell_due(labourer_id, released, refused=refused)

    def hold(self, attempt: Attempt, *, lease_s: float) -> None:
        """Keep the slot of an attempt that has ended but could not be closed yet."""
        self._slots.extend(attempt.labourer_id, attempt.holder, lease_s=lease_s)

    def _hand_on(self, attempt: Attempt) -> Released:
        """Give the slot to who stands by first, if anybody does."""
        try:
            share = self._share_of(attempt.labourer_id)
            return self._slots.hand_on(attempt.labourer_id, attempt.holder, lease_s=self._settings.lease_s, share=share)
        except StoreError as problem:
            logger.info("not gone on: %s", problem)  # the close has not to wait for Redis
            return Released(released=False, dispatch_due=False, archive_due=False)

    def _begin_claimed(
        self, attempt: Attempt, task: Task | None, asked_at: float, now: Decimal, claimer: str, *, waits: bool
    ) -> Run | None:
        """Return the run of an attempt that has a slot; claim its task unless that is done."""
        try:
            task = task or self._task_table.claim(attempt, now=now, node=self._node, claimer=claimer)
        except TransitionRefused as refused:
            logger.info("not gone on with: %s", refused)
        except StoreError as problem:
            logger.warning("not gone on with, the task is found again: %s", problem)
            return None
        return self._begun(attempt, task, asked_at, waits=waits)

    def _close(self, attempt: Attempt, outcome: Outcome) -> None:
        """Close the attempt with as much of its outcome as its row can take, without any of it if need be."""
        complete = partial(self._task_table.complete, attempt, now=self._clock())
        try:
            try:
                complete(outcome=outcome.attributes())
            except ContentRefused as refusal:
                logger.warning("closed without stats and results: %s", refusal, extra={"holder": attempt.holder})
                try:
                    complete(outcome=outcome.dropped(str(refusal)).attributes())
                except ContentRefused:
                    complete(outcome={}, is_full=True)
        except TransitionRefused as refused:
            logger.info("close refused: %s", refused)

    def _tell_due(self, labourer_id: str, released: Released, *, refused: bool = False) -> None:
        """Send the dispatch and the sweep that are due."""
        if released.dispatch_due or refused:
            self._tell(self._messenger.request_dispatch, labourer_id)
        if released.archive_due:
            self._tell(self._messenger.request_sweep, labourer_id)

    def _hand_over(self, labourer_id: str, hints: Sequence[Hint]) -> bool:
        """Publish the hints of those that got a slot; if the broker refuses, free their slots and return False."""
        if self._tell(self._hints.publish, hints):
            return True
        try:
            for hint in hints:
                self._slots.take_back(labourer_id, hint.attempt.holder)
        except StoreUnavailable as problem:
            logger.warning("slots not taken back, their leases will end: %s", problem)
        return False

    @staticmethod
    def _tell(send: Callable[[T], None], what: T) -> bool:
        """Send a message; return False if the broker refuses, whose errors are many."""
        try:
            send(what)
        except Exception as problem:
            logger.warning("not sent, the safety net will see to it: %s", problem, exc_info=True)
            return False
        return True

    def _end(
        self, attempt: Attempt, verdict: Retry | Dead, error: BaseException | str, outcome: Outcome | None
    ) -> Retry | Dead | None:
        failure = Failure(describe(error), (outcome or Outcome()).attributes())
        try:
            row = self._task_table.fail(attempt, verdict, failure, now=self._shared_clock())
        except TransitionRefused as refused:
            logger.info("failure refused: %s", refused)
            # Perhaps because it took effect before, and Redis was not there to be told of the retry.
            self._slots.note_retry(attempt.labourer_id, self._shared_clock())
            self.free(attempt)
            return None
        if isinstance(verdict, Retry) and row.desired_launch_time is not None:
            self._slots.note_retry(attempt.labourer_id, row.desired_launch_time)
        elif row.job_id:
            self._job_ended(row.job_id)
        self.free(attempt)
        return verdict
