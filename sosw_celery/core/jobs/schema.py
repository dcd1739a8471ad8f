"""The levels of a job and the words that speak of them.

A schema is a list of levels, outermost first: `["section", "store", "product"]`. A level is spelled in the singular or
the plural wherever a job names it: as the key of its values (`stores`), in the flag that asks for a task per value
(`isolate_stores`) and in the flag that asks for batches (`max_stores_per_batch`). Tasks always get the plural.

`Vocabulary` knows what each key of a job means under a schema, `Scope` which flags count at one place in a job.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from operator import itemgetter
from typing import Any, NamedTuple

from sosw_celery.errors import ConfigError, InvalidJob
from sosw_celery.text import did_you_mean, excerpt

__all__ = [
    "NO_FLAGS",
    "Level",
    "Meaning",
    "Scope",
    "Vocabulary",
    "Word",
    "choose_schema",
    "get_index_from_list",
    "get_next_chunkable_attr",
    "parse_levels",
    "parse_size",
    "parse_switch",
    "plural",
    "single_or_plural",
]

SCHEMA_KEY = "sosw.job_schema.chunkable_attrs"
LEVEL_EXPECTED = 'names as "store", or pairs as ("city", {"plural": "cities"})'

#: Attributes with a meaning of their own, which therefore cannot name a level.
RESERVED = frozenset(
    {"lambda_name", "labourer_id", "job_id", "job_schema_name", "timezone", "period", "date_list", "st_date", "en_date"}
)


@dataclass(frozen=True)
class Level:
    """One level of a schema. Frozen, and equal by its two spellings."""

    name: str
    plural: str

    @property
    def spellings(self) -> tuple[str, ...]:
        """The keys under which a job may give values of this level."""
        return (self.plural,) if self.name == self.plural else (self.name, self.plural)

    @property
    def isolate_flags(self) -> tuple[str, ...]:
        """The flags that ask for one task per value."""
        return tuple(f"isolate_{spelling}" for spelling in self.spellings)

    @property
    def batch_flags(self) -> tuple[str, ...]:
        """The flags that ask for batches of values."""
        return tuple(f"max_{spelling}_per_batch" for spelling in self.spellings)


def parse_levels(chunkable_attrs: Iterable[Any], key: str = SCHEMA_KEY) -> tuple[Level, ...]:
    """Return the levels of a schema as it is configured.

    Parameters:
        chunkable_attrs: Names (`"store"`), pairs with options (`("store", {})`, `("city", {"plural": "cities"})`) or
            levels that have been parsed already, in any mixture.
        key: Where this stands in the configuration, for errors.

    Raises:
        ConfigError: An entry of another shape, a name that is empty, reserved, or ends in "s" without a plural of its
            own, or a word that two levels would share.
    """
    if isinstance(chunkable_attrs, (str, bytes, Mapping)) or not isinstance(chunkable_attrs, Iterable):
        raise ConfigError(key, chunkable_attrs, f"a list of {LEVEL_EXPECTED}")
    levels = tuple(_parse_level(entry, f"{key}[{index}]") for index, entry in enumerate(chunkable_attrs))
    _refuse_shared_words(levels, key)
    return levels


def choose_schema(job: Mapping[str, Any], schema: Any, variants: Mapping[str, Any]) -> Sequence[Any]:
    """Return the `chunkable_attrs` that apply to a job.

    A job with a `job_schema_name` gets the variant of that name. Any other job gets the variant `default` where there
    is one with levels, else the schema itself, which is also what the name `default` means where no variant has it.

    Parameters:
        schema: A list of levels, or a mapping or an object that has `chunkable_attrs`.
        variants: Such schemas by their names.

    Raises:
        InvalidJob: There is no schema of this name.
    """
    name = job.get("job_schema_name")
    if name is None or name == "":
        name = "default"
    if name == "default":
        return _attrs_of(variants.get(name)) or _attrs_of(schema)
    if isinstance(name, str) and name in variants:
        return _attrs_of(variants[name])
    known = sorted({"default", *variants})
    hint = did_you_mean(name, known) if isinstance(name, str) else ""
    raise InvalidJob("job.job_schema_name", f"unknown schema, expected one of {', '.join(known)}{hint}", excerpt(name))


def parse_switch(value: Any, path: str) -> bool:
    """Return what a flag says: true or false, as a boolean, as 1 or 0, or as text in any case. Nothing means false.

    Raises:
        InvalidJob: It says something else.
    """
    if isinstance(value, bool) or value is None:
        return bool(value)
    word = value.lower() if isinstance(value, str) else value
    if word in ("true", "yes", "1", 1):
        return True
    if word in ("false", "no", "0", "", 0):
        return False
    raise InvalidJob(path, "expected true or false (or yes, no, 1, 0)", excerpt(value))


def parse_size(value: Any, path: str) -> int:
    """Return a batch size; 0 stands for none, which is also what null and false say.

    Raises:
        InvalidJob: Neither that nor a positive whole number or its text.
    """
    if value is None or value is False:
        return 0
    if isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value):
        return int(value)
    if isinstance(value, (int, float)) and value is not True and value >= 0 and value == value // 1:
        return int(value)
    raise InvalidJob(path, "expected a positive whole number of values per batch", excerpt(value))


class Meaning(Enum):
    """What a key of a job is."""

    VALUES = "values of a level"
    ISOLATE = "asks for a task per value of a level"
    BATCH = "asks for batches of values of a level"
    STRAY_FLAG = "looks like a flag, but names no level"


class Word(NamedTuple):
    """A key that is more than an attribute. `level` is the index of the level it speaks of, -1 for a stray flag."""

    meaning: Meaning
    level: int


STRAY = Word(Meaning.STRAY_FLAG, -1)

#: The look of a flag. What looks like one but names no level is worth a warning.
FLAG_PATTERN = re.compile("isolate_.+|max_.+_per_batch")

#: Layouts that are remembered by a vocabulary, and the most keys that one of them may have.
REMEMBERED_LAYOUTS = 1_000
REMEMBERED_KEYS = 100


class Layout(NamedTuple):
    """What the keys of a node are; those that are not here are ordinary attributes."""

    #: (what it means, the key)
    flags: tuple[tuple[Word, str], ...]
    #: (index of the level, the key), outermost first.
    levels: tuple[tuple[int, str], ...]
    #: The one of `levels`, where the node has no other key.
    only: tuple[int, str] | None


class Vocabulary:
    """What the keys of a job mean under a schema.

    The nodes of a job look alike, and there may be a million of them: so what the keys of one mean is remembered.
    """

    def __init__(self, levels: Sequence[Level]) -> None:
        self.levels = levels
        self._words: dict[str, Word] = {}
        for index, level in enumerate(levels):
            self._words.update(dict.fromkeys(level.spellings, Word(Meaning.VALUES, index)))
            self._words.update(dict.fromkeys(level.isolate_flags, Word(Meaning.ISOLATE, index)))
            self._words.update(dict.fromkeys(level.batch_flags, Word(Meaning.BATCH, index)))
        #: By the keys of a node: what they are.
        self.layouts = _Layouts(self._words)

    @property
    def flags(self) -> list[str]:
        """Every flag of the schema, in each of its spellings."""
        return [key for key, word in self._words.items() if word.meaning is not Meaning.VALUES]

    def level_of(self, attr: str) -> int:
        """Return the index of the level that an attribute spells.

        Raises:
            ValueError: There is no such level.
        """
        word = self._words.get(attr)
        if word is None or word.meaning is not Meaning.VALUES:
            raise ValueError(f"no level {attr!r}{did_you_mean(attr, [level.name for level in self.levels])}")
        return word.level


class _Layouts(dict[tuple[str, ...], Layout]):
    """Layouts by the keys that they are of; one that is not there is read, and remembered."""

    def __init__(self, words: Mapping[str, Word]) -> None:
        super().__init__()
        self._words = words

    def __missing__(self, keys: tuple[str, ...]) -> Layout:
        layout = self._read(keys)
        if len(self) < REMEMBERED_LAYOUTS and len(keys) <= REMEMBERED_KEYS:
            self[keys] = layout
        return layout

    def _read(self, keys: tuple[str, ...]) -> Layout:
        flags = []
        levels = []
        for key in keys:
            word = self._words.get(key)
            if word is None:
                if key.startswith(("isolate_", "max_")) and FLAG_PATTERN.fullmatch(key):
                    flags.append((STRAY, key))
            elif word.meaning is Meaning.VALUES:
                levels.append((word.level, key))
            else:
                flags.append((word, key))
        only = levels[0] if len(levels) == len(keys) == 1 else None
        return Layout(tuple(flags), tuple(sorted(levels, key=itemgetter(0))), only)


class Scope:
    """The flags that count at one place in a job: for each level, those of the nearest scope above that has them.

    Parameters:
        isolated: Index of a level -> whether each of its values is to be a task of its own.
        batches: Index of a level -> the most plain values that a task may have; 0 for any number.

    `sizes` combines them: for each level that is to be split, the number of plain values per task. A batch size
    decides over isolation.
    """

    __slots__ = ("batches", "isolated", "sizes")

    def __init__(self, isolated: Mapping[int, bool], batches: Mapping[int, int]) -> None:
        self.isolated = isolated
        self.batches = batches
        self.sizes = {level: 1 for level, wanted in isolated.items() if wanted}
        self.sizes.update({level: size for level, size in batches.items() if size})

    def inside(self, outer: Scope) -> Scope:
        """Return the scope of a node that has these flags itself and stands in the outer scope."""
        return Scope({**outer.isolated, **self.isolated}, {**outer.batches, **self.batches})


#: The scope of a job without any flags.
NO_FLAGS = Scope({}, {})


# The names that the seed of this project, the class Scheduler of sosw, gives to its helpers.


def single_or_plural(attr: str, levels: Iterable[Level] = ()) -> set[str]:
    """Return both spellings of an attribute: those of its level, else with and without one "s" at the end."""
    for level in levels:
        if attr in level.spellings:
            return set(level.spellings)
    singular = attr.removesuffix("s")
    return {singular, f"{singular}s"}


def plural(attr: str, levels: Iterable[Level] = ()) -> str:
    """Return the plural of an attribute in either spelling: that of its level, else with one "s" at the end."""
    for level in levels:
        if attr in level.spellings:
            return level.plural
    return f"{attr.removesuffix('s')}s"


def get_next_chunkable_attr(attr: str, levels: Sequence[Level]) -> str | None:
    """Return the name of the level after the one that `attr` spells, None for the last and for an unknown one."""
    for level, following in pairwise(levels):
        if attr in level.spellings:
            return following.name
    return None


def get_index_from_list(attr: str, data: Collection[Any], levels: Iterable[Level] = ()) -> int:
    """Return the position of an attribute, in either spelling, in a list or among the keys of a dict.

    Raises:
        InvalidJob: Both spellings are there.
        ValueError: None is, or these are not a text and something to look through.
    """
    if not isinstance(attr, str):
        raise ValueError(f"expected the name of an attribute, got {excerpt(attr)}")
    if not isinstance(data, Iterable):
        raise ValueError(f"expected something to find {attr!r} in, got {excerpt(data)}")
    spellings = single_or_plural(attr, levels)
    found = {item: index for index, item in enumerate(data) if isinstance(item, str) and item in spellings}
    if len(found) > 1:
        raise InvalidJob(attr, "expected one spelling, found the singular and the plural", excerpt(data))
    if not found:
        raise ValueError(f"no {attr!r} in {excerpt(data)}")
    return next(iter(found.values()))


def _parse_level(entry: Any, key: str) -> Level:
    if isinstance(entry, Level):
        return entry
    name, options = _name_and_options(entry, key)
    if not name:
        raise ConfigError(key, entry, "a name that is not empty")
    unknown = sorted(set(options) - {"plural"}, key=str)
    if unknown:
        raise ConfigError(f"{key}.{unknown[0]}", options[unknown[0]], "no other option than plural")
    own_plural = options.get("plural")
    if own_plural is None and name.endswith("s"):
        raise ConfigError(key, entry, 'a singular, or the plural beside it as in ("bus", {"plural": "buses"})')
    if own_plural is not None and not (isinstance(own_plural, str) and own_plural):
        raise ConfigError(f"{key}.plural", own_plural, "the plural as text")
    return Level(name, own_plural or f"{name}s")


def _name_and_options(entry: Any, key: str) -> tuple[str, Mapping[Any, Any]]:
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, (list, tuple)) and 1 <= len(entry) <= 2:
        name, options = (*entry, None)[:2]
        if isinstance(name, str) and (options is None or isinstance(options, Mapping)):
            return name, options or {}
    raise ConfigError(key, entry, LEVEL_EXPECTED)


def _refuse_shared_words(levels: Sequence[Level], key: str) -> None:
    taken: dict[str, str] = dict.fromkeys(RESERVED, "an attribute of every job")
    for level in levels:
        for word in {*level.spellings, *level.isolate_flags, *level.batch_flags}:
            if word in taken:
                raise ConfigError(key, word, f"words of their own for {level.name!r}; this one is {taken[word]}")
            taken[word] = f"a word of {level.name!r}"


def _attrs_of(schema: Any) -> Sequence[Any]:
    if isinstance(schema, Mapping):
        schema = schema.get("chunkable_attrs")
    elif hasattr(schema, "chunkable_attrs"):
        schema = schema.chunkable_attrs
    return schema or ()
