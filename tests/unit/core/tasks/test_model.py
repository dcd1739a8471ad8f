"""The values that layers hand to each other."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sosw_celery.core.tasks.model import Attempt, Hint

NAMES = st.text(min_size=1, max_size=40)


@given(labourer_id=NAMES, task_id=NAMES, number=st.integers(1, 10**6))
def test_a_hint_survives_its_message(labourer_id: str, task_id: str, number: int) -> None:
    """What the orchestrator publishes as JSON is what the worker reads."""
    hint = Hint(Attempt(labourer_id, task_id, number))
    assert Hint.from_message(json.loads(json.dumps(hint.as_message()))) == hint


@given(labourer_id=NAMES, task_id=NAMES, number=st.integers(1, 10**6))
def test_a_holder_names_its_attempt(labourer_id: str, task_id: str, number: int) -> None:
    """The name under which a slot is held tells the attempt, whatever the ids contain."""
    attempt = Attempt(labourer_id, task_id, number)
    assert Attempt.from_holder(labourer_id, attempt.holder) == attempt


@pytest.mark.parametrize(
    "message",
    [
        None,
        "text",
        [],
        {},
        {"task_id": "t", "labourer_id": "l"},
        {"task_id": 1, "labourer_id": "l", "attempt": 1},
        {"task_id": "t", "labourer_id": "l", "attempt": "1"},
    ],
)
def test_what_is_no_hint_is_not_taken_for_one(message: object) -> None:
    """A message of another shape is no hint, and no error either."""
    assert Hint.from_message(message) is None
