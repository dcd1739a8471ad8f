"""How long tasks take, and when a queue will be done."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from sosw_celery.core.rates import Rate
from sosw_celery.core.tasks.durations import Durations, duration_s, eta_s, summarised
from sosw_celery.core.tasks.greenfield import claimed
from sosw_celery.core.tasks.model import Task

NOW = Decimal(1_795_392_000)
DELTA = Decimal(31_557_600)


def closed(**values: Any) -> Task:
    """A task that was claimed at NOW."""
    return Task(**{"task_id": "t", "labourer_id": "l", "greenfield": claimed(NOW, DELTA), "created_at": NOW, **values})


@pytest.mark.parametrize(
    ("task", "seconds"),
    [
        (closed(completed_at=NOW + Decimal("2.5"), closed_at=NOW + 60), 2.5),
        (closed(closed_at=NOW + 7), 7.0),  # dead: it ended when it was closed
        (closed(completed_at=NOW - Decimal("0.1"), closed_at=NOW), 0.0),  # clocks of two nodes
        (closed(closed_at=NOW, greenfield=NOW - 5), None),  # set aside from the queue
        (closed(), None),
    ],
)
def test_a_task_takes_from_its_claim_to_its_end(task: Task, seconds: float | None) -> None:
    """The row of a closed task tells both times; where it was never claimed there is nothing to tell."""
    assert duration_s(task, DELTA) == seconds


def test_average_and_maximum() -> None:
    """Of no task nothing is known."""
    assert summarised([1.0, 2.0, 6.0]) == Durations(3.0, 6.0, 3)
    assert summarised([]) == Durations(None, None, 0)


@pytest.mark.parametrize(
    ("situation", "seconds"),
    [
        ({"queued": 100, "running": 0, "slots": 10, "average_s": 3.0}, 30.0),
        ({"queued": 100, "running": 10, "slots": 10, "average_s": 3.0}, 31.5),
        ({"queued": 0, "running": 4, "slots": 0, "average_s": 3.0}, 1.5),
        ({"queued": 0, "running": 0, "slots": 0, "average_s": None}, 0.0),
        ({"queued": 5, "running": 1, "slots": 0, "average_s": 3.0}, None),  # held back: no end in sight
        ({"queued": 5, "running": 1, "slots": 2, "average_s": None}, None),
        ({"queued": 100, "running": 0, "slots": 10, "average_s": 0.1, "rate": Rate(1)}, 100.0),
    ],
)
def test_a_queue_is_done_when_its_slots_have_worked_it_off(situation: dict[str, Any], seconds: float | None) -> None:
    """Work over slots, no faster than the rate allows; None where it does not go on."""
    assert eta_s(**situation) == (seconds if seconds is None else pytest.approx(seconds))
