"""Ids and depths of siblings."""

from __future__ import annotations

from typing import Any

import pytest

from sosw_celery.core.tasks.model import Attempt, Hint, Task
from sosw_celery.core.tasks.siblings import Sibling, next_depth
from sosw_celery.errors import InvalidJob, SiblingRefused


def spawn(*payloads: dict[str, Any], parent: str = "parent") -> list[Sibling]:
    """Return what one run of a parent spawns."""
    spawned: list[Sibling] = []
    for payload in payloads:
        spawned.append(Sibling.of(parent, 1, payload, spawned))
    return spawned


def test_two_runs_that_ask_for_the_same_mean_the_same_siblings() -> None:
    """Ids depend on the parent and the payload alone, whatever else a run asks for, and in which order."""
    first, second = {"offset": 1}, {"offset": 2}
    assert {one.task_id for one in spawn(first, second)} == {one.task_id for one in spawn(second, first)}
    assert spawn(first)[0].task_id != spawn(first, parent="another")[0].task_id


def test_equal_siblings_of_one_run_are_several() -> None:
    """Asking twice in one run gives two, and the same two in the next run."""
    twice = [one.task_id for one in spawn({}, {})]
    assert len(set(twice)) == 2
    assert [one.task_id for one in spawn({}, {})] == twice


def test_an_id_never_changes() -> None:
    """A running task has the siblings that it had before an upgrade."""
    assert spawn({"offset": 1})[0].task_id == "8d83ec51-9fae-576d-810d-5a54bd3a3179"


def test_a_line_ends_at_its_limit() -> None:
    """The sibling at the limit may not spawn another one; the error says whose line and how long."""
    assert next_depth("task t", 2, 3) == 3
    with pytest.raises(SiblingRefused, match="task t: no further sibling, 3 came before it and max_sibling_depth is 3"):
        next_depth("task t", 3, 3)
    with pytest.raises(SiblingRefused):
        next_depth("task t", 0, 0)


@pytest.mark.parametrize("payload", [{"a": object()}, {"a": float("nan")}, {1: 2}, {"a": "x" * 500_000}])
def test_what_is_no_payload_is_refused(payload: dict[str, Any]) -> None:
    """As for tasks of jobs: only what JSON can say and a row can hold."""
    with pytest.raises(InvalidJob):
        spawn(payload)


def test_a_sibling_survives_its_message() -> None:
    """What the assistant reads is what the worker spawned; anything else is told."""
    (sibling,) = spawn({"a": 1})
    assert Sibling.from_message(sibling.as_message()) == sibling
    for message in (None, {}, {**sibling.as_message(), "depth": "1"}):
        with pytest.raises(ValueError, match="expected"):
            Sibling.from_message(message)


def test_a_hint_carries_a_claimed_task_as_far_as_a_run_needs_it() -> None:
    """Payload, job, attempt and depth travel; a hint without a claim is as small as ever."""
    attempt = Attempt("resize", "t", 2)
    task = Task("t", "resize", greenfield=1, created_at=1, payload='{"a": 1}', job_id="j", attempts=2)  # type: ignore[arg-type]
    read = Hint.from_message(Hint(attempt, task).as_message())
    assert read is not None
    assert read.attempt == attempt
    assert read.task is not None
    assert (read.task.payload, read.task.job_id, read.task.current_attempt) == ('{"a": 1}', "j", attempt)
    assert Hint(attempt).as_message() == {"task_id": "t", "labourer_id": "resize", "attempt": 2}
