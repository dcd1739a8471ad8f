"""What sosw makes of a job, we make of it too, wherever sosw does not surprise."""

from __future__ import annotations

from typing import Any

import pytest

from sosw_celery.errors import ConfigError, InvalidJob
from tests.unit.core.golden import load, load_ours, play, unmarked

VECTORS = [vector for suite in ("chunking", "direct", "dates", "helpers") for vector in unmarked(suite)]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
def test_matches_sosw(vector: dict[str, Any]) -> None:
    """An unmarked vector gives exactly the recorded result, in order; where sosw fails, we refuse."""
    expected = vector["expect"]
    if "error" in expected:
        with pytest.raises(ValueError, match=r"\w"):
            play(vector)
    elif "tasks" in expected:
        assert play(vector) == expected["tasks"]
    else:
        assert play(vector) == expected["result"]


def test_all_vectors_are_here() -> None:
    """No suite lost a vector on its way into the repository."""
    assert {suite: len(load(suite)) for suite in ("chunking", "direct", "dates", "helpers", "tasks")} == {
        "chunking": 221,
        "direct": 33,
        "dates": 428,
        "helpers": 107,
        "tasks": 115,
    }


MARKED = [
    vector
    for suite in ("chunking", "direct", "dates", "helpers")
    for vector in load(suite).values()
    if "quirk" in vector
]
OURS = load_ours()


@pytest.mark.parametrize("vector", MARKED, ids=lambda vector: f"{vector['id']}-{vector['quirk']}")
def test_decides_where_sosw_surprises(vector: dict[str, Any]) -> None:
    """A marked vector gives what we decided, or is refused with the path of what is wrong."""
    ours = OURS[vector["id"]]
    if "refused" in ours:
        with pytest.raises((InvalidJob, ConfigError)) as refusal:
            play(vector)
        assert refusal.value.args[0] == ours["refused"]
    else:
        assert play(vector) == ours.get("tasks", ours.get("result"))
