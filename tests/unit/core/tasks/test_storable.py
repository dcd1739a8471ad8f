"""Any value of Python as one that a table can keep."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import ipaddress
import itertools
import json
import math
import uuid
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

import numpy as np
import pydantic
import pytest
from boto3.dynamodb.types import Binary
from hypothesis import HealthCheck, Verbosity, given, settings
from hypothesis import strategies as st

from sosw_celery.core.tasks.storable import (
    DIGITS,
    TooLarge,
    as_number,
    entries,
    sayable,
    storable,
    storable_entries,
    text_of,
)
from sosw_celery.stores.dynamodb.attributes import attribute_of, attributes_of_text, attributes_text
from sosw_celery.stores.dynamodb.item_size import size_of
from tests.fuzz.hostile import HOSTILE, UNSAYABLE, WORD


class Raising:
    """Raises whatever it is asked."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def _raise(self, *_: Any) -> Any:
        raise self.error

    __str__ = __repr__ = __iter__ = __len__ = __bool__ = __bytes__ = __format__ = __int__ = __float__ = _raise

    def __hash__(self) -> int:
        return id(self)


class RaisingDict(dict[str, int]):
    """A dict that cannot be read."""

    def items(self) -> Any:
        """Raise."""
        raise RuntimeError("not now")

    __iter__ = keys = values = items


class RaisingList(list[int]):
    """A list that breaks off."""

    def __iter__(self) -> Iterator[int]:
        yield 1
        raise RuntimeError("not now")


class Endless(list[int]):
    """A list that is read for ever."""

    def __iter__(self) -> Iterator[int]:
        while True:
            yield 7


class Bottomless(Mapping[str, Any]):
    """A dict that holds another one like it, for ever."""

    def __getitem__(self, key: str) -> Bottomless:
        return Bottomless()

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


class Nameless(type):
    """A class that does not tell its name."""

    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no name")


class Hidden(metaclass=Nameless):
    """Tells neither its class nor its text."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("no class")

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Colour(enum.Enum):
    """Of a plain enum."""

    RED = 1


class Level(int, enum.Enum):
    """Of an enum of numbers, whose text is none."""

    LOW = 1


class Word(str, enum.Enum):
    """Of an enum of texts, whose text is another one."""

    YES = "yes"


class Loud(str):
    """A text whose `__str__` raises."""

    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("loud")


class Lying(int):
    """A number whose text is none."""

    def __str__(self) -> str:
        return "seven"

    __repr__ = __format__ = lambda self, *_: "seven"


@dataclasses.dataclass(frozen=True)
class Point:
    """A dataclass."""

    x: int


class Model(pydantic.BaseModel):
    """A model of pydantic."""

    x: int


def circle() -> list[Any]:
    """Return a list with a dict that holds the list."""
    found: list[Any] = [1]
    found.append({"again": found})
    return found


def deep(levels: int, leaf: Any = 1) -> Any:
    """Return lists in each other."""
    for _ in range(levels):
        leaf = [leaf]
    return leaf


def wide(levels: int) -> list[Any]:
    """Return a list of two times the same list, and so on: few objects, very many values."""
    found: list[Any] = []
    for _ in range(levels):
        found = [found, found]
    return found


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (None, None),
        (True, True),
        (7, 7),
        (10**38 - 1, 10**38 - 1),
        (10**38, "1" + "0" * 38),
        (10**5000, "an integer of 16610 bits"),
        (Level.LOW, 1),
        (Lying(7), 7),
        (0.1, Decimal("0.1")),
        (2.0, Decimal("2.0")),
        (-0.0, 0),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (1e300, "1e+300"),
        (1e-300, "1e-300"),
        (Decimal("1.50"), Decimal("1.50")),
        (Decimal("sNaN"), "sNaN"),
        (Decimal("1E+126"), "1E+126"),
        (Decimal("1." + "1" * 38), "1." + "1" * 38),
        ("a\ud800", "a\\ud800"),
        (Loud("x"), "x"),
        (Word.YES, "yes"),
        (b"\xff", b"\xff"),
        (bytearray(b"x"), b"x"),
        (Binary(b"x"), b"x"),
        ((1, "a"), [1, "a"]),
        ([], []),
        (collections.OrderedDict(a=1), {"a": 1}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        ({1, 2}, {1, 2}),
        ({"a", "b"}, {"a", "b"}),
        (frozenset([b"x"]), {b"x"}),
        ({1, Decimal("1.0"), 0.1, Decimal("0.1")}, {1, Decimal("0.1")}),
        (set(), []),
        ({None}, [None]),
        ({True}, [True]),
        ({math.nan}, ["nan"]),
        ({"a": 1}.keys(), {"a"}),
        ({("a", "b"): 1}, {"('a', 'b')": 1}),
        ({datetime.date(2026, 1, 1): 5}, {"2026-01-01": 5}),
        ({1: "a", "1": "b", 1.5: "c"}, {"1": "a", "1 (2)": "b", "1.5": "c"}),
        ({None: 1, Colour.RED: 2, b"k": 3}, {"None": 1, "Colour.RED": 2, "b'k'": 3}),
        ({"": 1}, {"<empty>": 1}),
        ({10**5000: 1}, {"<int without a text: ValueError>": 1}),
        (datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.timezone.utc), "2026-01-01 12:00:00+00:00"),
        (datetime.timedelta(seconds=5), "0:00:05"),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (PurePosixPath("/a"), "/a"),
        (ipaddress.ip_address("::1"), "::1"),
        (Colour.RED, "Colour.RED"),
        (fractions.Fraction(1, 3), "1/3"),
        (fractions.Fraction(4, 1), Decimal(4)),
        (1j, "1j"),
        (Point(1), "Point(x=1)"),
        (Model(x=1), "x=1"),
        (ValueError("odd"), "odd"),
        (np.int64(5), 5),
        (np.uint8(5), 5),
        (np.float64(0.1), Decimal("0.1")),
        (np.float32(0.1), Decimal("0.1")),
        (np.float32("nan"), "nan"),
        (np.bool_(True), True),
        (np.array(5), 5),
        (np.array([1, 2]), "[1 2]"),
        (np.str_("x"), "x"),
        (np.datetime64("2026-01-01T10:00"), "2026-01-01T10:00"),
        (np.timedelta64(5, "s"), "5 seconds"),
        ({np.int64(5): np.int64(6), np.float64(0.5): 7}, {"5": 6, "0.5": 7}),
        (circle(), [1, {"again": "<a circle: the list that this is in>"}]),
        (Raising(RuntimeError("x")), "<Raising without a text: RuntimeError>"),
        ([Raising(RecursionError("x"))], ["<Raising without a text: RecursionError>"]),
        ({"a": Raising(GeneratorExit())}, {"a": "<Raising without a text: GeneratorExit>"}),
        ({Raising(ValueError()): 1, Raising(ValueError("x")): 2},
         {"<Raising without a text: ValueError>": 1, "<Raising without a text: ValueError> (2)": 2}),
        ({"a": RaisingDict(b=1)}, {"a": "<RaisingDict that cannot be read: RuntimeError>"}),
        ([RaisingList()], ["<RaisingList that cannot be read: RuntimeError>"]),
        (Hidden(), "<Hidden that cannot be read: RuntimeError>"),
        ("x" * 1_000_001, "<str of more than 1000000 bytes>"),
        (list(range(500_000)), "<list of more than 1000000 bytes>"),
        (Endless(), "<Endless of more than 1000000 bytes>"),
        (wide(30), "<list of more than 1000000 bytes>"),
    ],
    ids=lambda value: type.__repr__(type(value)),
)  # fmt: skip
def test_a_value_keeps_what_a_table_can_keep_of_it(value: Any, kept: Any) -> None:
    """Numbers stay numbers and texts texts; what a table has no place for is text, or a word about it."""
    found = storable(value)
    assert found == kept
    assert type(found) is type(kept) or (type(found), kept) == (Decimal, 0)


@pytest.mark.parametrize("kind", [list, tuple, dict, frozenset])
def test_what_is_far_too_large_takes_no_longer(kind: type) -> None:
    """The beginning of what is nested too deeply is kept, however much there is of it below."""
    value: Any = (wide(60),)
    for _ in range(40):
        value = {"a": value} if kind is dict else (value,) if kind is frozenset else kind([value])
    assert "[[[[" in str(storable({"a": value}))


def test_of_what_is_nested_too_deeply_the_beginning_is_kept() -> None:
    """31 levels of lists and dicts stay, as many as a table takes around a plain value."""
    assert storable(deep(31)) == deep(31)
    found = storable(deep(3000))
    for _ in range(31):
        (found,) = found
    assert found.startswith("[[[[")
    found = storable(Bottomless())
    for _ in range(31):
        found = found["a"]
    assert isinstance(found, str)


def test_what_comes_out_has_nothing_in_common_with_the_value() -> None:
    """So that code that goes on with its own values changes nothing of what is kept."""
    value = {"a": [1, {"b": {2}}], "c": bytearray(b"x")}
    found = storable(value)
    value["a"].append(2)  # type: ignore[attr-defined]
    value["a"][1]["b"].add(3)  # type: ignore[index]
    value["c"].extend(b"y")  # type: ignore[attr-defined]
    assert found == {"a": [1, {"b": {2}}], "c": b"x"}


def test_an_interrupt_is_no_matter_of_a_value() -> None:
    """Ctrl-C while a value is asked for its text ends the process as it would anywhere; a value that exits does not."""
    with pytest.raises(KeyboardInterrupt):
        storable([Raising(KeyboardInterrupt())])
    (found,) = storable([Raising(SystemExit(1))])
    assert found.startswith("<Raising")
    assert found.endswith(": SystemExit>")


def test_a_mapping_without_an_end_is_one_entry_as_a_whole() -> None:
    """It is not read for ever, neither as entries nor as a value: no table has room for it."""
    endless = EndlessDict()
    assert entries(endless, "value")["value"] is endless
    assert storable(endless) == "<EndlessDict of more than 1000000 bytes>"


@pytest.mark.parametrize("value", [memoryview(b"abc"), memoryview(b"aXbXcX")[::2]])
def test_a_view_of_bytes_is_bytes(value: memoryview) -> None:
    """Not the text that says where it is."""
    assert storable(value) == b"abc"


class EndlessDict(dict[Any, Any]):
    """Has always one entry more."""

    def items(self) -> Any:
        """Yield numbers."""
        return ((number, number) for number in itertools.count())


def test_entries_say_how_much_room_they_leave() -> None:
    """By the bytes of their names and values as a table counts them, or a few more; what is too much is refused."""
    made, left = storable_entries({"a": "xyz", 5: [1, 2]}, "stat_", 100)
    assert made == {"stat_a": "xyz", "stat_5": [1, 2]}
    assert 100 - left == size_of({name: attribute_of(value) for name, value in made.items()})
    with pytest.raises(TooLarge):
        storable_entries({"a": "xyz"}, "stat_", 8)


@pytest.mark.parametrize(
    ("value", "found"),
    [({"a": 1}, {"a": 1}), (5, {"value": 5}), (None, {"value": None}), ([1], {"value": [1]})],
)
def test_a_mapping_is_its_entries_and_anything_else_is_one(value: Any, found: dict[str, Any]) -> None:
    """What cannot be read as a mapping is an entry as a whole."""
    assert entries(value, "value") == found
    broken = RaisingDict(a=1)
    assert entries(broken, "value")["value"] is broken


def test_a_text_that_is_a_number_can_be_one() -> None:
    """Digit by digit, as far as a table keeps them."""
    assert [as_number(text) for text in (" 12 ", "0012", "1e3", "-0")] == [12, 12, 1000, 0]
    assert [as_number(text) for text in ("twelve", "nan", "1e999999999", "1" * 39, True, None)] == [None] * 6


def test_any_text_can_be_said() -> None:
    """Halves of surrogate pairs are escaped; a class of texts cannot say something else."""
    assert (sayable("\udc80a"), sayable(Loud("x")), text_of(Loud("x"))) == ("\\udc80a", "x", text_of(Loud("x")))


ODD = st.sampled_from(
    [
        circle,
        lambda: deep(3000),
        lambda: wide(40),
        lambda: 10**5000,
        lambda: Raising(RuntimeError("x")),
        lambda: Raising(RecursionError()),
        lambda: Raising(MemoryError()),
        lambda: Raising(GeneratorExit()),
        lambda: RaisingDict(a=1),
        RaisingList,
        Endless,
        Bottomless,
        lambda: Loud("x"),
        lambda: Lying(7),
        lambda: Level.LOW,
        lambda: Word.YES,
        lambda: Colour.RED,
        lambda: Point(1),
        lambda: Model(x=1),
        lambda: np.float32(0.1),
        lambda: np.int64(5),
        lambda: np.array([[1, 2]]),
        lambda: np.datetime64("NaT"),
        lambda: memoryview(b"x"),
        lambda: collections.deque([1]),
        lambda: (one for one in [1]),
        lambda: "x" * 10**6,
        lambda: bytes(10**6),
    ]
).map(lambda make: make())
LEAVES = st.one_of(
    HOSTILE,
    UNSAYABLE,
    ODD,
    st.binary(),
    st.decimals(),
    st.fractions(),
    st.complex_numbers(),
    st.datetimes(),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.uuids(),
    st.floats(),
    st.integers(),
)
KEYS = st.one_of(
    WORD, st.integers(), st.floats(), st.none(), st.booleans(), st.dates(), st.binary(), st.tuples(st.integers()),
    st.sampled_from([Colour.RED, Level.LOW, Word.YES, Point(1)]), st.builds(Raising, st.builds(ValueError)),
    st.builds(lambda: 10**5000),
)  # fmt: skip
#: Any value of Python, as far as one can think of them.
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(KEYS, inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=4).map(MappingProxyType),
        st.sets(KEYS, max_size=4),
        st.frozensets(KEYS, max_size=4),
    ),
    max_leaves=10,
)


#: Bytes for a value of these tests: enough to hold most, and little enough that none takes long to be looked at.
ROOM = 8_000


def check(value: Any, depth: int = 1) -> None:
    """Assert that a table can keep a value as it is."""
    if value is None or type(value) in (bool, bytes):
        return
    if type(value) is str:
        value.encode()
    elif type(value) is int:
        assert len(str(abs(value))) <= DIGITS
    elif type(value) is Decimal:
        assert value.is_finite()
        assert len(value.as_tuple().digits) <= DIGITS
        assert not value or -130 < value.adjusted() < 126
    elif type(value) is set:
        (_,) = {"number" if type(one) in (int, Decimal) else type(one) for one in value}
        assert not any(type(one) in (list, dict, bool) or one is None for one in value)
    else:
        assert depth <= 31
        assert type(value) in (list, dict)
        for key, inner in enumerate(value) if type(value) is list else value.items():
            assert type(value) is list or (type(key) is str and 0 < len(key.encode()) < 65_536)
            check(inner, depth + 1)


# Quiet: some of these values cannot be shown, or not in this century.
@settings(max_examples=300, suppress_health_check=list(HealthCheck), deadline=None, verbosity=Verbosity.quiet)
@given(ANYTHING)
def test_any_value_can_be_kept(value: Any) -> None:
    """Nothing is raised, whatever it is; it fits into an item, JSON can say it, and it stays what it is."""
    found = storable(value, ROOM)
    check(found)
    assert storable(found, ROOM) == found
    assert size_of({"": attribute_of(found)}) <= ROOM
    again = attributes_of_text(json.loads(json.dumps(attributes_text({"result_x": found}))))
    assert size_of({"": attribute_of(again["result_x"])}) <= ROOM


NUMBERS = (
    st.decimals(allow_nan=False) | st.floats() | st.fractions() | st.integers() | st.floats(width=32).map(np.float32)
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(NUMBERS | st.sets(NUMBERS, max_size=3) | st.dictionaries(NUMBERS, NUMBERS, max_size=3)),
    st.sampled_from([decimal.Context(prec=2, traps=[decimal.Inexact]), decimal.Context(prec=1, traps=[])]),
)
def test_numbers_are_kept_alike_in_any_decimal_context(value: Any, context: decimal.Context) -> None:
    """The body may have changed the thread's."""
    expected = storable(value)
    with decimal.localcontext(context):
        found = storable(value)
    assert found == expected


@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.text() | st.integers(-(10**37), 10**37) | st.binary()
            | st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**20), max_value=10**20)
            | st.sets(st.text(), min_size=1) | st.sets(st.integers(), min_size=1, max_size=3),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1), inner, max_size=3),
            max_leaves=6,
        ),
    )
)  # fmt: skip
def test_what_a_table_can_keep_survives_a_message(found: dict[str, Any]) -> None:
    """Types and digits, bytes and sets: an end that travels to the assistant is the one that is written directly."""
    kept, _ = storable_entries(found, "", 10**6)
    assert attributes_of_text(attributes_text(kept)) == kept
