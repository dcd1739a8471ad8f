"""The laws of chunking, on jobs of every shape that Hypothesis can think of.

What a job means does not depend on how it is split: `meaning` writes a job down as a list of chains, one for each way
from its outermost values to its innermost ones, each with the attributes that a worker sees there. A task is a job too.
So nothing is lost, doubled or moved exactly when the meanings of the tasks, one after the other, are that of the job.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from datetime import date
from itertools import islice
from typing import Any, NamedTuple

from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from sosw_celery.core.chunking import chunk_job, parse_levels
from sosw_celery.errors import InvalidJob

FRIDAY = date(2024, 3, 1)
LEVELS = parse_levels(["region", ("city", {"plural": "cities"}), "shop"])

SPELLINGS = {spelling for level in LEVELS for spelling in level.spellings}

NAMES = st.sampled_from(["a", "b", "c", "", "1"])
SCALARS = st.one_of(NAMES, st.integers(-1, 2), st.booleans(), st.just(2.5))
ATTRIBUTES = st.dictionaries(st.sampled_from(["lang", "w", "x"]), SCALARS | st.none() | st.just({"k": [1]}), max_size=2)
SWITCHES = st.sampled_from([True, True, False, None, "yes", "no", 0, 1])
SIZES = st.sampled_from([1, 2, 3, "2", 0, None])

ISOLATE_FLAGS = st.sampled_from([flag for level in LEVELS for flag in level.isolate_flags])
BATCH_FLAGS = st.sampled_from([level.batch_flags[1] for level in LEVELS])
FLAGS = st.one_of(
    st.just({}),
    st.dictionaries(ISOLATE_FLAGS, SWITCHES, min_size=1, max_size=2),
    st.dictionaries(BATCH_FLAGS, SIZES, min_size=1, max_size=2),
)


#: At the root of most jobs, so that most jobs are split.
ROOT_FLAGS = st.one_of(
    st.just({}),
    st.dictionaries(ISOLATE_FLAGS, st.just(True), min_size=1, max_size=2),
    st.dictionaries(BATCH_FLAGS, st.integers(1, 3), min_size=1, max_size=2),
)


@st.composite
def nodes(draw: st.DrawFn, index: int, odd: bool) -> dict[str, Any]:
    """Draw a node of which the levels from `index` on may have values; with `odd`, several of them, and others too."""
    node = {**draw(ATTRIBUTES), **draw(FLAGS if index else ROOT_FLAGS)}
    for level in range(index, len(LEVELS)):
        if draw(st.integers(0, 7)):
            node[draw(st.sampled_from(LEVELS[level].spellings))] = draw(values(level + 1, odd))
            if not odd or draw(st.integers(0, 2)):
                break
    if odd and index and draw(st.integers(0, 19)) == 19:
        node[draw(st.sampled_from(LEVELS[index - 1].spellings))] = draw(SCALARS)
    return node


@st.composite
def values(draw: st.DrawFn, index: int, odd: bool) -> Any:
    """Draw values of the level before `index`: a tree of nodes, mostly."""
    shape = draw(st.integers(0, 11 if odd else 9))
    if shape == 0:
        return draw(SCALARS | st.just([]) | st.just({}))
    if shape <= 3:
        return draw(st.lists(SCALARS, min_size=2, max_size=5))
    contents = nodes(index, odd) if shape % 2 else st.none() | nodes(index, odd)
    trees = st.dictionaries(NAMES, contents, min_size=1, max_size=3)
    if shape <= 8:
        return draw(trees)
    if shape == 9:
        return draw(st.lists(trees, min_size=1, max_size=2))
    return draw(st.lists(SCALARS | trees | st.none()) | st.dictionaries(NAMES, contents | SCALARS))


JOBS = nodes(0, False)
ODD_JOBS = nodes(0, True)


class Step(NamedTuple):
    """A value on the way: its level, which value it is, and the most values that a task with it may have (0: any)."""

    level: int
    name: Any
    position: int
    size: int


class Chain(NamedTuple):
    """A way from outermost to innermost values, and what a worker sees at its end."""

    steps: tuple[Step, ...]
    attributes: str

    @property
    def meaning(self) -> tuple[Any, ...]:
        """The chain without what splitting changes."""
        return (*((step.level, repr(step.name)) for step in self.steps), self.attributes)


def meaning(job: dict[str, Any]) -> list[Chain]:
    """Write a job down as its chains, by a reading of its rules that shares nothing with the code under test."""
    positions = iter(range(10**9))

    def read(
        node: dict[str, Any], index: int, around: dict[str, Any], outer: dict[str, int], steps: tuple[Step, ...]
    ) -> Iterator[Chain]:
        found = [(n, key) for n in range(index, len(LEVELS)) for key in LEVELS[n].spellings if key in node]
        found = [(n, key) for n, key in found if pairs(node[key])]
        keys = [key for _, key in found]
        own = {key: value for key, value in node.items() if key not in keys and not (key in SPELLINGS and empty(value))}
        attributes = {**around, **own}
        if not found:
            yield Chain(steps, json.dumps(attributes, sort_keys=True))
            return
        (level, key), *beside = found
        sizes = {**outer, **own_sizes(node, index)}
        size = sizes.get(f"batch {level}") or sizes.get(f"isolate {level}", 0)
        for name, child in pairs(node[key]):
            inner = dict(child or {})
            for other, other_key in beside:
                # Values both beside and inside a level are refused, unless the level stays together.
                twice = any(spelling in inner for spelling in LEVELS[other].spellings)
                inner |= {f"outer {other}": contents(node[other_key])} if twice else {other_key: node[other_key]}
            position = next(positions)
            yield from read(inner, level + 1, attributes, sizes, (*steps, Step(level, name, position, size)))

    return list(read(job, 0, {}, {}, ()))


def empty(content: Any) -> bool:
    """Return whether a level is named without a value; nearer values may take its place."""
    return not content or (isinstance(content, list) and not any(item != {} for item in content))


def own_sizes(node: dict[str, Any], index: int) -> dict[str, int]:
    """Return what the flags of a node say for the levels from `index` on."""
    found: dict[str, int] = {}
    for number, level in enumerate(LEVELS):
        switches = [node[flag] in (True, "yes") for flag in level.isolate_flags if flag in node]
        if number >= index and switches:
            found[f"isolate {number}"] = int(any(switches))
        if number >= index and level.batch_flags[1] in node:
            found[f"batch {number}"] = int(node[level.batch_flags[1]] or 0)
    return found


def pairs(content: Any) -> list[tuple[Any, Any]]:
    """Return values with their contents; none for what has no values, or cannot be told apart into values."""
    if isinstance(content, dict):
        return list(content.items()) if all(v is None or isinstance(v, dict) for v in content.values()) else []
    if isinstance(content, list):
        if all(isinstance(item, dict) for item in content):
            return [pair for item in content for pair in pairs(item)] if all(map(clean, content)) else []
        return (
            [(item, None) for item in content] if all(isinstance(item, (str, int, float)) for item in content) else []
        )
    return [(content, None)] if content else []


def contents(content: Any) -> Any:
    """Return the same for every way to write the same values down."""
    return [[name, child or None] for name, child in pairs(content)] or content


def clean(content: dict[str, Any]) -> bool:
    """Return whether every value of a dict is None or a dict."""
    return all(value is None or isinstance(value, dict) for value in content.values())


def chunk(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the tasks of a job."""
    return list(chunk_job(job, LEVELS, FRIDAY))


def chunk_or_give_up(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the tasks of a job; one that is refused proves nothing."""
    try:
        return chunk(job)
    except InvalidJob:
        event("refused")
        assume(False)
        raise


@settings(max_examples=300)
@given(JOBS)
def test_nothing_is_lost_or_doubled(job: dict[str, Any]) -> None:
    """The tasks of a well-formed job mean together, in order, what the job means; it is never refused."""
    tasks = chunk(job)
    event(f"{min(len(tasks), 10)} tasks")
    assert [chain.meaning for task in tasks for chain in meaning(task)] == [chain.meaning for chain in meaning(job)]


@settings(max_examples=300)
@given(ODD_JOBS)
def test_nothing_is_lost_or_doubled_in_odd_jobs(job: dict[str, Any]) -> None:
    """The same holds for a job with anything in it, as far as it is not refused."""
    tasks = chunk_or_give_up(job)
    event(f"{min(len(tasks), 10)} tasks")
    assert [chain.meaning for task in tasks for chain in meaning(task)] == [chain.meaning for chain in meaning(job)]


@settings(max_examples=300)
@given(JOBS)
def test_flags_are_obeyed(job: dict[str, Any]) -> None:
    """No task has more values of a level than the nearest flags for it allow."""
    chains = iter(meaning(job))
    for task in chunk(job):
        together = list(islice(chains, len(meaning(task))))
        for step in (step for chain in together for step in chain.steps if step.size):
            same_level = {other.position for chain in together for other in chain.steps if other.level == step.level}
            assert len(same_level) <= step.size


@given(JOBS)
def test_isolated_values_are_alone(job: dict[str, Any]) -> None:
    """With every level isolated and no other flag, each chain is a task."""
    plain = without_flags(job)
    tasks = chunk({**plain, **{level.isolate_flags[1]: True for level in LEVELS}})
    assert len(tasks) == len(meaning(plain))


@given(ODD_JOBS)
def test_without_flags_a_job_is_its_task(job: dict[str, Any]) -> None:
    """A job in which nothing asks to be split is one task: itself."""
    plain = without_flags(job)
    assert chunk(plain) == [plain]


@given(ODD_JOBS)
def test_the_same_again(job: dict[str, Any]) -> None:
    """A job is not changed by chunking, and it or a copy of it gives the same tasks in the same order."""
    before = copy.deepcopy(job)
    first = chunk_or_give_up(job)
    assert json.dumps(job) == json.dumps(before)
    assert json.dumps(first) == json.dumps(chunk(job)) == json.dumps(chunk(before))


@given(JOBS, st.integers(1, 3))
def test_days_repeat_the_job(job: dict[str, Any], days: int) -> None:
    """Isolated days give the tasks of the job once for each day, day by day."""
    dated = chunk({**job, "period": f"last_{days}_days", "isolate_days": True})
    plain = chunk(job)
    assert len(dated) == days * len(plain)
    assert [{key: task[key] for key in task if key != "date_list"} for task in dated] == plain * days
    assert [task["date_list"] for task in dated] == sorted(task["date_list"] for task in dated)


def without_flags(node: Any) -> Any:
    """Return a job without its flags."""
    if isinstance(node, list):
        return [without_flags(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {key: without_flags(value) for key, value in node.items() if not key.startswith(("isolate_", "max_"))}
