"""How large items are, and how they are made to fit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sosw_celery.stores.dynamodb.item_size import DROPPED, MOST_BYTES, fitted, size_of

ITEMS = st.dictionaries(st.text(min_size=1, max_size=9), st.integers(0, 300_000), max_size=12)


@pytest.mark.parametrize(
    ("attribute", "at_least"),
    [
        ({"S": "é"}, 2),
        ({"N": "12345678901234567890123456789012345678"}, 20),
        ({"N": "-1"}, 2),
        ({"B": b"123"}, 3),
        ({"B": bytearray(b"123")}, 3),
        ({"BOOL": True}, 1),
        ({"NULL": True}, 1),
        ({"SS": ["a", "bc"]}, 3),
        ({"NS": ["1", "23"]}, 4),
        ({"BS": [b"a", b"bc"]}, 3),
        ({"L": []}, 3),
        ({"L": [{"S": "abc"}]}, 7),
        ({"M": {"key": {"S": "abc"}}}, 10),
    ],
)
def test_a_value_counts_as_much_as_dynamodb_says_or_a_few_bytes_more(attribute: Any, at_least: int) -> None:
    """Texts count as UTF-8, numbers by two digits, lists and maps with what is around each value."""
    assert at_least + 4 <= size_of({"name": attribute}) <= at_least + 4 + 6


@given(sizes=ITEMS)
def test_an_item_fits_without_its_largest_attributes(sizes: dict[str, int]) -> None:
    """Whatever it holds, it fits then, keeps what is to be kept, and says what it lacks."""
    item = {name: {"S": "x" * size} for name, size in sizes.items()} | {"task_id": {"S": "t" * 2048}}
    result = fitted(item, keep={"task_id"})
    assert size_of(result) <= MOST_BYTES
    assert result["task_id"] == item["task_id"]
    gone = item.keys() - result.keys()
    assert bool(gone) == (size_of(item) > MOST_BYTES)
    if gone:
        assert all(f"{name} ({size_of({name: item[name]})} bytes)" in result[DROPPED]["S"] for name in gone)
        kept = [size_of({name: item[name]}) for name in result.keys() - {DROPPED, "task_id"}]
        assert min(size_of({name: item[name]}) for name in gone) >= max(kept, default=0)
    else:
        assert result == item


def test_what_was_left_out_is_told_shortly() -> None:
    """Many large names do not make the word about them too large."""
    item = {f"{number:03d}" + "n" * 250: {"S": "x" * 3000} for number in range(200)}
    result = fitted(item)
    assert size_of(result) <= MOST_BYTES
    assert len(result[DROPPED]["S"]) == 1000


def test_what_has_to_stay_stays_though_it_does_not_fit() -> None:
    """The caller sees by its size that it still does not."""
    item = {"payload": {"S": "x" * MOST_BYTES}, "result": {"S": "y" * 10_000}}
    result = fitted(item, keep={"payload"})
    assert result.keys() == {"payload", DROPPED}
    assert size_of(result) > MOST_BYTES
