"""Any value of Python as one that a table can keep: total, so that recording what a worker found fails for no value.

What comes out consists of None, booleans, texts that UTF-8 can say, bytes, ints and decimals of up to 38 digits, lists,
dicts with texts as keys, and sets of texts, of numbers or of bytes: at most 31 of them in each other, without circles.
Made storable again it stays what it is. It has nothing in common with the value that it was made of, so that this one
may change meanwhile.

- Numbers stay numbers, those of numpy too. NaN, infinities and what has more digits or another magnitude than a table
  keeps become text; floats keep the digits that Python shows.
- A set of one kind stays one, any other becomes a list, as do tuples. Keys become texts, different ones different
  texts.
- Anything else becomes the text that `str` gives: dates, enums, dataclasses, models, exceptions.
- What cannot be kept or said is replaced by a word about it in angle brackets: a circle, a value whose `__str__`
  raises, what is larger than the room for it. Of what is nested too deeply the beginning is kept as text.

A value that takes for ever to be read (an `__iter__` that never returns) takes as long here: that is the time limit's.
"""

from __future__ import annotations

import itertools
import numbers
from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal
from typing import Any

from sosw_celery.core.exact import EXACT
from sosw_celery.text import cut_to_bytes, excerpt

__all__ = [
    "DIGITS",
    "TooLarge",
    "as_number",
    "entries",
    "sayable",
    "storable",
    "storable_entries",
    "text_of",
    "type_name",
]

#: DynamoDB keeps 38 significant digits, of magnitudes between these.
DIGITS, SMALLEST, LARGEST = 38, -129, 125
LARGEST_INTEGER = 10**DIGITS - 1
#: DynamoDB allows 32 levels of lists and maps in each other; what is in the last of them has to be plain.
DEEPEST = 31
#: Characters that are kept of a value that cannot be kept as what it is.
LONGEST_EXCERPT = 300
#: A name of DynamoDB is shorter than 64 KB, and not empty.
LONGEST_KEY, EMPTY_KEY = 60_000, "<empty>"
#: Bytes that are looked at of a value that stands by itself. That it is too large for an item is the table's to say.
MOST_BYTES = 1_000_000
#: Bytes of a list, set or dict beside what is in it, and of each of its elements.
CONTAINER_BYTES, ELEMENT_BYTES = 3, 1

#: numpy's letters for its types of booleans and whole numbers, and of fractions.
NUMPY_WHOLE, NUMPY_FLOAT = ("b", "i", "u"), "f"

#: What a value may raise that is asked what it is, and which is about the process, not about the value. (A `SystemExit`
#: may be either. Whoever ends a process by one asks whether that is so.)
NOT_OF_THE_VALUE = KeyboardInterrupt


class TooLarge(Exception):
    """What was to be made storable has more bytes than there is room for."""


def storable(value: object, room: int = MOST_BYTES) -> Any:
    """Return a value as a table can keep it, or a word about its size. Raises nothing.

    Parameters:
        room: Bytes that it may have, as DynamoDB counts them.
    """
    try:
        return _Walk(room).made(value, 1)
    except TooLarge:
        return f"<{type_name(value)} of more than {room} bytes>"


def storable_entries(found: Mapping[Any, Any], prefix: str, room: int) -> tuple[dict[str, Any], int]:
    """Return the entries of a dict as attributes of an item, and the room that is left beside them.

    Parameters:
        prefix: Of each name.

    Raises:
        TooLarge: There is not room for all of them.
    """
    walk = _Walk(room)
    names = _Names(prefix)
    made = {}
    for key, value in found.items():
        name = names.of(key)
        walk.spend(len(name.encode()))
        made[name] = walk.made(value, 1)
    return made, walk.room


def entries(value: object, otherwise: str) -> dict[Any, Any]:
    """Return the entries of a mapping; of what is none, or cannot be read as one, one entry of this name. Total."""
    try:
        if isinstance(value, Mapping):
            # Each takes a byte at least, so there is room for no more.
            pairs = list(itertools.islice(value.items(), MOST_BYTES))
            return dict(pairs) if len(pairs) < MOST_BYTES else {otherwise: value}
    except NOT_OF_THE_VALUE:
        raise
    except BaseException:  # noqa: BLE001  # whatever reading it raises: it is an entry as a whole
        return {otherwise: value}
    return {otherwise: value}


def text_of(value: object) -> str:
    """Return the text of any value, as UTF-8 can say it; a word about it where `str` raises."""
    try:
        return sayable(str(value))
    except NOT_OF_THE_VALUE:
        raise
    except BaseException as problem:  # noqa: BLE001  # whatever __str__ raises; Python, for integers of 4,301 digits
        return f"<{type_name(value)} without a text: {type_name(problem)}>"


def sayable(text: str) -> str:
    """Return a text as UTF-8 can say it, half of a surrogate pair as an escape; of a class of its own what it holds."""
    plain = str.__str__(text)
    try:
        plain.encode()
    except UnicodeEncodeError:
        return plain.encode("utf-8", "backslashreplace").decode()
    return plain


def as_number(value: object) -> int | Decimal | None:
    """Return a number as a table can keep it, one that a text says too; None if it is none that it can keep.

    Booleans are none.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        try:
            value = EXACT.create_decimal(value.strip())
        except ArithmeticError:
            return None
    if isinstance(value, int):
        exact = int.__int__(value)
        return exact if abs(exact) <= LARGEST_INTEGER else None
    if isinstance(value, float):
        value = Decimal(float.__repr__(value))
    if not isinstance(value, Decimal) or not value.is_finite():
        return None
    if not value:
        return Decimal(0)
    fits = len(value.as_tuple().digits) <= DIGITS and SMALLEST < value.adjusted() < LARGEST
    return Decimal(value) if fits else None


class _Walk:
    """One way through a value, which ends when its room is used up.

    Parameters:
        room: Bytes that are left.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        #: Ids of the containers around the present value.
        self._around: list[int] = []

    def spend(self, size: int) -> None:
        """Use up some room.

        Raises:
            TooLarge: There is not as much.
        """
        self.room -= size
        if self.room < 0:
            raise TooLarge

    def made(self, value: object, depth: int) -> Any:
        """Return the value as it is kept.

        Parameters:
            depth: Of the value, among the lists and dicts around it; 1 for an attribute's own.
        """
        try:
            return self._made(value, depth)
        except (TooLarge, NOT_OF_THE_VALUE):
            raise
        except BaseException as problem:  # noqa: BLE001  # whatever the value raises when it is asked what it holds
            return self._text(f"<{type_name(value)} that cannot be read: {type_name(problem)}>")

    def _made(self, value: object, depth: int) -> Any:
        if value is None or isinstance(value, bool):
            self.spend(1)
            return value
        if isinstance(value, str):
            if str.__len__(value) > self.room:  # before a gigabyte is looked at
                raise TooLarge
            return self._text(sayable(value))
        if isinstance(value, (bytes, bytearray, memoryview)):
            plain = value.tobytes() if isinstance(value, memoryview) else b"".join((value,))
            self.spend(len(plain))
            return plain
        if isinstance(value, (int, float, Decimal)):
            return self._number(value)
        if isinstance(value, (list, tuple, Mapping, AbstractSet)):
            return self._container(value, depth)
        return self._other(value, depth)

    def _text(self, text: str) -> str:
        self.spend(len(text.encode()))
        return text

    def _number(self, value: int | float | Decimal) -> Any:
        number = as_number(value)
        if number is None:
            return self._text(_text_of_number(value))
        # A byte for two digits, one for the exponent, one for a sign, and one since half a byte counts as one.
        self.spend(min(len(str(number)), DIGITS) // 2 + 3)
        return number

    def _other(self, value: Any, depth: int) -> Any:
        """Return what is none of Python's own kinds: numbers of numpy and such as what they are, else as text."""
        module = type(value).__module__
        if module == "numpy":
            return self._numpy(value, depth)
        if module == "boto3.dynamodb.types":  # Binary: bytes as boto3 reads them
            return self._made(bytes(value), depth)
        if isinstance(value, numbers.Integral):
            return self._number(int(value))
        number = as_number(str(value)) if isinstance(value, numbers.Real) else None
        return self._text(text_of(value)) if number is None else self._number(number)

    def _numpy(self, value: Any, depth: int) -> Any:
        """Return a scalar of numpy as the number that it is. Its times count as numbers there, but their text tells."""
        kind = value.dtype.kind if getattr(value, "shape", None) == () and hasattr(value, "dtype") else None
        if kind in NUMPY_WHOLE:
            return self._made(value.item(), depth)
        number = as_number(str(value)) if kind == NUMPY_FLOAT else None
        return self._text(text_of(value)) if number is None else self._number(number)

    def _container(self, value: Any, depth: int) -> Any:
        if id(value) in self._around:
            return self._text(f"<a circle: the {type_name(value)} that this is in>")
        if depth > DEEPEST:
            return self._text(sayable(excerpt(value, LONGEST_EXCERPT)))
        self.spend(CONTAINER_BYTES)
        self._around.append(id(value))
        try:
            if isinstance(value, Mapping):
                return self._dict(value, depth)
            made = [self._element(inner, depth) for inner in value]
            return _as_set(value, made) or made if isinstance(value, AbstractSet) else made
        finally:
            self._around.pop()

    def _element(self, value: object, depth: int) -> Any:
        self.spend(ELEMENT_BYTES)
        return self.made(value, depth + 1)

    def _dict(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        names = _Names()
        made = {}
        for key, inner in value.items():
            name = names.of(key)
            self.spend(len(name.encode()))
            made[name] = self._element(inner, depth)
        return made


class _Names:
    """The keys of one dict as texts, different ones different texts: 1 and "1" are two."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._given: Counter[str] = Counter()

    def of(self, key: object) -> str:
        text = f"{self._prefix}{sayable(key) if type(key) is str else text_of(key)}" or EMPTY_KEY
        if len(text) > LONGEST_KEY // 4:  # characters of up to four bytes
            text = cut_to_bytes(text, LONGEST_KEY)
        name = text
        while name in self._given:
            self._given[text] += 1
            name = f"{text} ({self._given[text]})"
        self._given[name] += 1
        return name


def _as_set(values: Iterable[object], made: list[Any]) -> set[Any] | None:
    """Return storable elements as a set of a table; None when they are none, or not all texts, numbers or bytes."""
    if made and all(type(one) is str for one in made):
        # What became a text, as NaN, stays apart from texts.
        return set(made) if all(isinstance(value, str) for value in values) else None
    if made and all(type(one) is bytes for one in made):
        return set(made)
    return set(made) if made and all(type(one) in (int, Decimal) for one in made) else None


def _text_of_number(value: int | float | Decimal) -> str:
    if isinstance(value, int):
        return excerpt(int.__int__(value), LONGEST_EXCERPT)
    return float.__repr__(value) if isinstance(value, float) else Decimal.__str__(value)


def type_name(value: object) -> str:
    """Return the name of a value's class, whatever that class does to hide it."""
    return str(vars(type)["__name__"].__get__(type(value)))
