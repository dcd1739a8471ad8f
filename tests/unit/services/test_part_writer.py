"""The lease under which rows are written: kept by signs of life, and noticed when it is gone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from sosw_celery import clock
from sosw_celery.errors import StoreUnavailable, TransitionRefused
from sosw_celery.services.part_writer import Lease, PartWriter
from sosw_celery.stores.dynamodb.client import _guard_sending

LEASE_S = 0.3


class Renewals:
    """Counts signs of life and answers each as it is told; `happened` lets a test wait for them."""

    def __init__(self, answer: Callable[[], None] = lambda: None) -> None:
        self.answer = answer
        self.count = 0
        self.happened = threading.Condition()

    def __call__(self) -> None:
        """Give a sign of life."""
        with self.happened:
            self.count += 1
            self.happened.notify_all()
        self.answer()

    def wait_for(self, count: int) -> None:
        """Wait until so many signs of life were given."""
        with self.happened:
            assert self.happened.wait_for(lambda: self.count >= count, timeout=10)


def lease(renew: Callable[[], None], steady: Callable[[], float] = clock.steady) -> Lease:
    """Return a lease that has just been taken."""
    return Lease(renew, lease_s=LEASE_S, margin_s=LEASE_S / 5, taken_at=steady(), steady=steady, name="j1#part#00000")


def test_a_lease_is_kept_while_the_block_runs() -> None:
    """Long after its first end a lease still holds, because it was renewed; after the block nothing renews it."""
    renewals = Renewals()
    with lease(renewals) as held:
        renewals.wait_for(7)
        held.check()
    count = renewals.count
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lease of")]
    assert renewals.count == count


def test_a_lease_that_somebody_took_over_is_gone() -> None:
    """After a refused sign of life nothing may be written any more, though the time is not up."""

    def refuse() -> None:
        raise TransitionRefused("j1#part#00000", "renew")

    renewals = Renewals(refuse)
    # The clock stands still, so that only the refusal can be the reason.
    with lease(renewals, lambda: 5.0) as held:
        held.check()
        renewals.wait_for(1)
        held._thread.join(10)
        with pytest.raises(TransitionRefused):
            held.check()
    assert renewals.count == 1


def test_a_lease_that_cannot_be_renewed_runs_out() -> None:
    """While the table does not answer it is asked again, and the lease counts until shortly before its end."""
    now = [100.0]

    def unavailable() -> None:
        raise StoreUnavailable("dynamodb", "renew", "EndpointConnectionError")

    renewals = Renewals(unavailable)
    with lease(renewals, lambda: now[0]) as held:
        renewals.wait_for(2)
        now[0] += LEASE_S * 0.75
        held.check()
        now[0] += LEASE_S * 0.1
        with pytest.raises(TransitionRefused):
            held.check()


def test_an_answer_that_comes_late_does_not_lengthen_a_lease() -> None:
    """A lease counts from when its renewal was asked for, not from when the answer came."""
    now = [100.0]
    held = lease(Renewals(), lambda: now[0])
    now[0] += LEASE_S / 2
    held.renewed(asked_at=100.0)
    now[0] += LEASE_S / 2
    with pytest.raises(TransitionRefused):
        held.check()


def writer(held: Lease, task_table: Any = None) -> PartWriter:
    """Return what writes rows under the lease; of its surroundings there is only the table."""
    nothing: Any = None
    names = ("labourer_id", "arn", "job_table", "messenger", "clock", "lease_clock", "steady")
    part: Any = SimpleNamespace(next_row=0, batch_rows=0, claims=1)
    return PartWriter(part, held, task_table=task_table, lease_s=LEASE_S, **dict.fromkeys(names, nothing))


def test_rows_leave_only_while_the_lease_holds() -> None:
    """It is asked for when they are about to be sent, also if it held when they were made ready."""
    held = lease(Renewals(), lambda: 5.0)

    class Table:
        def write(self, tasks: Any) -> None:
            held.give_up()
            _guard_sending(SimpleNamespace(body=b""))  # as every client does before it sends a request

    with writer(held, Table()) as written, pytest.raises(TransitionRefused):
        written._send([])


def test_a_writer_that_is_interrupted_has_no_further_row_sent() -> None:
    """Rows that wait to be sent again do not keep its process; one that ends in good order has sent all of its own."""
    for interruption in (None, KeyboardInterrupt()):
        held = lease(Renewals(), lambda: 5.0)
        try:
            with writer(held):
                if interruption is not None:
                    raise interruption
        except KeyboardInterrupt:
            with pytest.raises(TransitionRefused):
                held.check()
        else:
            held.check()
