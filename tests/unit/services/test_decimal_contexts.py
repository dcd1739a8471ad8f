"""The thread's decimal context is whoever's code ran last: what tasks go through does not depend on it."""

from __future__ import annotations

import decimal
from decimal import Decimal
from typing import Any

import pytest

from sosw_celery import clock
from sosw_celery.cli.task import exact_time_text
from sosw_celery.config.settings import greenfield_delta
from sosw_celery.core.tasks import greenfield
from sosw_celery.core.tasks.durations import duration_s
from sosw_celery.core.tasks.model import Task
from sosw_celery.core.tasks.retrying import Retry
from sosw_celery.errors import ItemCorrupt
from sosw_celery.stores.dynamodb.attributes import typed_attribute
from sosw_celery.stores.dynamodb.tables import Tables
from sosw_celery.stores.dynamodb.task_rows import from_item, to_item
from sosw_celery.stores.redis.slots import sortable, unsortable

System = Any

NOW = Decimal("1795392000.123456")
ALL = [decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow, decimal.Underflow, decimal.Subnormal]
ALL += [decimal.Inexact, decimal.Rounded, decimal.Clamped, decimal.FloatOperation]

#: What the code of a labourer may do to its thread.
CONTEXTS = {
    "few digits": decimal.Context(prec=6),
    "one digit, up": decimal.Context(prec=1, rounding=decimal.ROUND_UP, traps=[]),
    "inexact is an error": decimal.Context(prec=6, traps=[decimal.Inexact]),
    "everything is an error": decimal.Context(prec=28, traps=ALL),
    "everything is an error, soon": decimal.Context(prec=2, Emax=3, Emin=-3, clamp=1, traps=ALL),
    "nothing is an error": decimal.Context(prec=28, traps=[], capitals=0),
}
hostile = pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)


@hostile
def test_times_and_places_are_exact(context: decimal.Context) -> None:
    """To the microsecond, whatever the thread's context keeps and raises."""
    with decimal.localcontext(context):
        made = [position for position, _ in zip(greenfield.positions(NOW), range(3), strict=False)]
        claimed = greenfield.claimed(NOW, Decimal(31_557_600))
        back = greenfield.claimed_at(claimed, Decimal(31_557_600))
        retry = greenfield.retry_position(NOW)
        texts = (sortable(NOW), str(unsortable(sortable(NOW))), exact_time_text(NOW))
        end = greenfield.queue_end(NOW)
        now = clock.now()
    assert [str(position)[-6:] for position in made] == ["123456", "123457", "123458"]
    assert (str(claimed), str(back)) == ("1826949600.123456", "1795392000.123456")
    assert str(retry) == "1479816000.123456"
    assert texts == ("5000001795392000.123456", "1795392000.123456", "2026-11-23 00:00:00.123456")
    assert str(end) == "1795478400.123456"
    assert abs(now - clock.now()) < 60


@hostile
def test_rows_are_read_and_written_to_the_digit(context: decimal.Context) -> None:
    """Times, stats and fields whose type `row_mapper` states; what is no time is no task."""
    task = Task("task-1", "resize", NOW, NOW, extra={"stat_a": Decimal("0.1234567890123456789"), "stat_b": 12345678901})
    with decimal.localcontext(context):
        row = to_item(task, Tables())
        again = from_item(row, Tables())
        typed = [(" 12345678.90", "N"), ("twelve", "N"), (1.23456789, None)]
        kinds = [typed_attribute(value, kind) for value, kind in typed]
        for wrong in ("NaN", "soon"):
            with pytest.raises(ItemCorrupt):
                from_item({**row, "greenfield": {"N": wrong}}, Tables())
    assert row["greenfield"] == {"N": "1795392000.123456"}
    assert again == task
    assert kinds == [{"N": "12345678.90"}, {"S": "twelve"}, {"N": "1.23456789"}]


@hostile
def test_the_life_of_a_task_is_the_same(system: System, context: decimal.Context) -> None:
    """Claims, closes, retries and the archive leave the rows that they leave in a context that nobody has touched."""
    system.job_of("job", 3)
    system.queue(3, job_id="job")
    with decimal.localcontext(context):
        assert system.orchestrator.dispatch("resize") == 2
        first, second = system.begin_all()
        first.stats["pages"] = Decimal("1.234567890123")
        system.attempts.complete(first.attempt, first.outcome())
        assert system.attempts.fail(second.attempt, "broken") == Retry(1)
        for run in system.begin_all():
            system.attempts.complete(run.attempt, run.outcome())
        system.scavenger.sweep("resize", thorough=True)
    system.now += 1000
    with decimal.localcontext(context):
        system.scavenger.sweep("resize", thorough=True)
        system.orchestrator.dispatch("resize", from_head=True)
        for run in system.begin_all():
            system.attempts.complete(run.attempt, run.outcome())
        system.scavenger.sweep("resize", thorough=True)
        closed = {task.task_id: task for task in system.task_table.closed("resize", status=1)}
        delta = greenfield_delta(system.settings)
        lasted = {name: duration_s(task, delta) for name, task in closed.items()}
    assert lasted == {"task-001": 0.0, "task-002": 0.0, "task-003": 0.0}
    assert closed["task-001"].extra["stat_pages"] == Decimal("1.234567890123")
    assert [closed[name].attempts for name in sorted(closed)] == [1, 2, 1]
    times = {name: (int(task.greenfield), int(task.completed_at)) for name, task in closed.items()}
    assert times["task-001"] == times["task-003"] == (1_826_949_600, 1_795_392_000)
    assert times["task-002"] == (1_826_950_600, 1_795_393_000)
    assert system.job_table.get("job").completed == 3
