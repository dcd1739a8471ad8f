"""The check of every message, against anything that JSON can say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sosw_celery.core.celery_message import problem_of

HEADERS: dict[str, Any] = {
    "lang": "py",
    "task": "resize",
    "id": "3f2a",
    "root_id": "3f2a",
    "parent_id": None,
    "group": None,
    "group_index": None,
    "shadow": None,
    "eta": None,
    "expires": "2030-01-01T00:00:00",
    "retries": 0,
    "timelimit": [60, None],
    "argsrepr": "()",
    "kwargsrepr": "{}",
    "origin": "gen1@host",
    "ignore_result": True,
    "replaced_task_nesting": 0,
    "stamped_headers": None,
    "stamps": {},
}
PAYLOAD: list[Any] = [[{"task_id": "t"}], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def test_a_message_as_celery_sends_it_passes() -> None:
    """Nothing is wrong with what Celery's own protocol 2 says, whatever follows the task."""
    assert problem_of(HEADERS, PAYLOAD) is None
    follows = {"callbacks": [{"task": "next", "args": [1], "kwargs": {}, "options": {}}], "chain": [{"task": "b"}]}
    assert problem_of({**HEADERS, "x-own": object()}, [[], {}, follows]) is None
    assert problem_of({"task": "a", "id": "b"}, ([], {}, {})) is None


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("task", 5),
        ("task", None),
        ("task", ["resize"]),
        ("id", ""),
        ("timelimit", 5),
        ("timelimit", ["a", None]),
        ("timelimit", [float("nan"), 1]),
        ("timelimit", [-1, None]),
        ("timelimit", [10**400, None]),
        ("retries", "1"),
        ("retries", True),
        ("eta", 5),
        ("stamps", []),
        ("stamped_headers", [1]),
        ("ignore_result", "no"),
        ("group", [1]),
    ],
)
def test_a_header_of_another_kind_is_named(header: str, value: Any) -> None:
    """What is wrong is told by the header's name, never by its value."""
    problem = problem_of({**HEADERS, header: value}, PAYLOAD)
    assert problem is not None
    assert problem.endswith(f"in the header {header}")


@pytest.mark.parametrize(
    "payload",
    [
        5,
        None,
        "text",
        [],
        {},
        [[], {}],
        [{}, [], {}],
        [[], {}, None],
        [[], {}, {"chain": [5]}],
        [[], {}, {"chord": 5}],
        [[], {}, {"callbacks": {}}],
        [[], {}, {"callbacks": [{"task": "a", "args": 5}]}],
        [[], {}, {"callbacks": [{"task": "a", "options": [5]}]}],
    ],
)
def test_a_body_of_another_shape_is_refused(payload: Any) -> None:
    """A body that Celery would stumble over is refused with what is expected."""
    assert str(problem_of(HEADERS, payload)).startswith("expected")


@given(st.dictionaries(st.sampled_from([*HEADERS, "x"]), JSON), JSON)
def test_anything_is_judged_and_nothing_raises(changes: dict[str, Any], payload: Any) -> None:
    """Whatever a message says of itself, the answer is words or None."""
    for headers, body in (
        ({**HEADERS, **changes}, PAYLOAD),
        (HEADERS, payload),
        (changes, payload),
        (payload, changes),
    ):
        problem = problem_of(headers, body)
        assert problem is None or problem.startswith("expected")


@given(JSON)
def test_what_passes_has_the_shape_that_celery_relies_on(payload: Any) -> None:
    """A body that passes can be taken apart as Celery does it."""
    if problem_of(HEADERS, payload) is None:
        args, kwargs, options = payload
        assert isinstance(args, (list, tuple))
        assert isinstance(kwargs, dict)
        assert isinstance(options, dict)
