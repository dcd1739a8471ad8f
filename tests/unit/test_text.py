"""What errors show of a value."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sosw_celery.text import cut_to_bytes, excerpt

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=20,
)


@given(JSON)
def test_is_the_beginning_of_repr(value: Any) -> None:
    """A short value is shown as repr shows it, a long one is cut."""
    whole = repr(value)
    assert excerpt(value) == (whole if len(whole) <= 80 else f"{whole[:77]}...")


def deep() -> list[Any]:
    """Return lists in each other, deeper than Python can go."""
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize("value", [deep(), list(range(10**7)), "x" * 10**8, dict.fromkeys(range(10**6))])
def test_looks_at_the_beginning_only(value: Any) -> None:
    """Neither size nor depth of a value matter."""
    assert len(excerpt(value)) == 80


def test_large_numbers() -> None:
    """An integer that Python refuses to write out is shown by its size."""
    assert excerpt({"a": 10**5000}) == "{'a': an integer of 16610 bits}"


def test_a_value_that_cannot_be_shown() -> None:
    """Telling of an error does not raise another one."""

    class Mute:
        """Cannot say what it is."""

        def __repr__(self) -> str:
            raise RuntimeError

    assert excerpt([1, Mute()]) == "[1, <Mute>]"


@pytest.mark.parametrize(
    ("text", "most", "cut"), [("abc", 3, "abc"), ("abc", 2, "ab"), ("aé", 2, "a"), ("é\ud800b", 4, "é?b"), ("", 5, "")]
)
def test_a_text_is_cut_to_bytes_between_its_characters(text: str, most: int, cut: str) -> None:
    """It is never longer than a limit in bytes, holds no half of a character, and can be sent whatever it holds."""
    assert cut_to_bytes(text, most) == cut
