"""What all fault runs of the suite share."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _nothing_left_for_other_tests(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have what a run has left warned of in its own test, which says what may be: garbage turns up anywhere else."""
    yield
    if request.node.get_closest_marker("slow") is not None:
        gc.collect()
