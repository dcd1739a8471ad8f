"""Rows that are refused together."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sosw_celery.errors import ContentRefused, StoreError, StoreUnavailable
from sosw_celery.stores.dynamodb.halving import in_halves

REFUSAL = ContentRefused("dynamodb", "BatchWriteItem", "ValidationException")


@given(count=st.integers(1, 60), culprits=st.sets(st.integers(0, 59), max_size=5))
def test_only_the_culprits_stand_alone(count: int, culprits: set[int]) -> None:
    """However many rows there are and whichever are refused, all others are written, and each once is done."""
    written: list[int] = []
    calls = 0

    def write(rows: Sequence[int]) -> list[int]:
        nonlocal calls
        calls += 1
        if culprits & set(rows):
            raise REFUSAL
        written.extend(rows)
        return list(rows)

    done = in_halves(range(count), write, lambda row, problem: [-row - 1])
    found = {row for row in culprits if row < count}
    assert sorted(written) == sorted(set(range(count)) - found)
    assert done == [-row - 1 if row in found else row for row in range(count)]
    assert calls <= 1 + 2 * len(found) * (count - 1).bit_length()


@pytest.mark.parametrize("problem", [StoreUnavailable("dynamodb", "Query"), StoreError("dynamodb", "Query", "Access")])
def test_what_concerns_no_single_row_is_not_looked_for(problem: StoreError) -> None:
    """A store that is away, or refuses the caller, says nothing about the rows."""
    with pytest.raises(type(problem)):
        in_halves([1, 2], lambda rows: (_ for _ in ()).throw(problem), lambda row, problem: [])
