"""Going on after what fails."""

from __future__ import annotations

import logging

import pytest

from sosw_celery.core.isolation import each_by_itself
from sosw_celery.errors import StoreError, StoreUnavailable


def make(problems: dict[str, Exception | None], made: list[str], *ends_with: type[Exception]) -> None:
    """Make a step for each name, which raises its problem."""
    with each_by_itself("sweep", ends_with=ends_with) as steps:
        for name, problem in problems.items():
            with steps.step(f"labourer {name}"):
                made.append(name)
                if problem is not None:
                    raise problem


def test_what_fails_stops_no_other_step_and_is_raised_once_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """Each step is made, each failure logged once with what it was about, and the first error ends the block."""
    first, made = ValueError("first"), list[str]()
    with pytest.raises(ValueError, match="first") as raised:
        make({"a": None, "b": first, "c": KeyError("second"), "d": None}, made)
    assert raised.value is first
    assert made == ["a", "b", "c", "d"]
    assert [record.getMessage() for record in caplog.records] == [
        "sweep: labourer b failed, going on: first",
        "sweep: labourer c failed, going on: 'second'",
        "sweep: 2 of 4 failed",
    ]
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


def test_nothing_is_raised_or_logged_where_nothing_fails(caplog: pytest.LogCaptureFixture) -> None:
    """A block without failures ends as any other."""
    with each_by_itself("sweep") as steps, steps.step("labourer a"):
        pass
    assert (steps.made, steps.failed, caplog.records) == (1, 0, [])


def test_an_error_that_all_steps_would_meet_ends_the_block_at_once() -> None:
    """Where the store is away, the next row needs no try of its own."""
    away, made = StoreUnavailable("dynamodb", "Query"), list[str]()
    with pytest.raises(StoreUnavailable):
        make({"a": StoreError("dynamodb", "Query"), "b": away, "c": None}, made, StoreUnavailable)
    assert made == ["a", "b"]


def test_only_what_is_broken_is_told_with_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """A store that is away for now is one line; an error of the code shows where it is."""
    with pytest.raises(StoreUnavailable):
        make({"a": StoreUnavailable("dynamodb", "Query", "Throttled"), "b": RuntimeError("bug")}, [])
    away, broken, _ = caplog.records
    assert not away.exc_info
    assert broken.exc_info
    assert broken.exc_info[0] is RuntimeError


def test_a_failure_inside_of_another_blocks_step_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The inner block says what it was about, the outer one goes on and raises it too."""
    with pytest.raises(ValueError, match="first"), each_by_itself("sweep of all") as steps, steps.step("resize"):
        make({"a": ValueError("first")}, [])
    assert [record.getMessage() for record in caplog.records] == ["sweep: labourer a failed, going on: first"]


def test_what_ends_a_process_is_not_held_up() -> None:
    """An exit is no failure of a step."""
    with pytest.raises(SystemExit), each_by_itself("sweep") as steps, steps.step("labourer a"):
        raise SystemExit(1)
