"""Inputs that nobody should send: values of wrong types, names that mean something elsewhere, and jobs with faults.

A mutated job is one of the golden jobs with some of its nodes replaced, renamed, removed, doubled or wrapped.
"""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

GOLDEN = Path(__file__).parents[1] / "golden"

#: Inputs made so far, by the test that made them.
COUNTED: Counter[str] = Counter()

#: Examples of one test, in each profile: of those that touch no server, and of those that do.
QUICK = {"fuzz": 4000}.get(settings.get_current_profile_name(), 120)
SLOW = {"fuzz": 1000}.get(settings.get_current_profile_name(), 25)


def counted(name: str, inputs: int = 1) -> None:
    """Note that a test has looked at so many inputs more."""
    COUNTED[name] += inputs


#: Words that DynamoDB, Python, JavaScript, Redis or a shell take for something else, and texts that are hard to keep.
WORDS = [
    "",
    " ",
    "\0",
    "a\0b",
    "\ud800",
    "\udfff\ud800",
    "\u202e\ufeff",
    "💥" * 20,
    "__proto__",
    "__class__",
    "constructor",
    "toString",
    "attribute",
    "size",
    "status",
    "ttl",
    "SET",
    "#g",
    ":end",
    "AND 1=1",
    "task_id",
    "labourer_id",
    "job_id",
    "job",
    "sosw",
    "claimed",
    "greenfield",
    "attempts",
    "payload",
    "lambda_name",
    "job_schema_name",
    "timezone",
    "period",
    "isolate_days",
    "../../etc/passwd",
    "/etc/passwd",
    "..",
    "%2e%2e%2f",
    "..\\..\\x",
    "$(reboot)",
    "{0.__class__}",
    "%s%n",
    "*",
    "{a}",
    "a\nb",
    "a\tb",
    "last_99999999999999_days",
    "last_0_days",
    "2024-13-45",
    "2024-01-01..2023-01-01",
    "NaN",
    "arn:aws:lambda:eu-west-1:1:function:x",
    "x" * 3000,
]

NUMBERS = [
    0,
    -1,
    1,
    10**38,
    10**39 - 1,
    -(10**39),
    10**400,
    2**63,
    0.1,
    -0.0,
    1e-130,
    1e308,
    float("nan"),
    float("inf"),
    float("-inf"),
]


class Deep(list[Any]):
    """So many lists or dicts in each other, in a list that can be shown."""

    def __init__(self, depth: int, kind: type) -> None:
        value: Any = 1
        for _ in range(depth):
            value = [value] if kind is list else {"a": value}
        super().__init__([value])
        self.shown = f"Deep({depth}, {kind.__name__})"

    def __repr__(self) -> str:
        return self.shown

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(self.shown)

    def __deepcopy__(self, memo: Any) -> Any:
        return self


DEEP = st.builds(Deep, st.sampled_from([31, 32, 33, 399, 400, 401, 900, 5000]), st.sampled_from([list, dict]))
WORD = st.sampled_from(WORDS) | st.text(max_size=8)
SCALAR = st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.integers() | st.floats() | WORD
#: Anything that a JSON parser, a Python caller or a broken program may hand over.
ANYTHING = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORD, inner, max_size=4), max_leaves=12
)
#: The same, now and then so deep that a walk without a limit ends the process.
HOSTILE = st.one_of(ANYTHING, ANYTHING, ANYTHING, DEEP)
#: What only Python can say; made anew each time, since faults are put into what was drawn.
UNSAYABLE = st.sampled_from(
    [
        lambda: b"bytes",
        lambda: {1, 2},
        lambda: (1, 2),
        object,
        lambda: 1j,
        lambda: {5: 6},
        lambda: {None: 1},
        lambda: ValueError("x"),
        lambda: range(3),
    ]
).map(lambda make: make())


def golden_jobs() -> list[dict[str, Any]]:
    """Return the golden vectors that are about a whole job."""
    names = ("chunking", "dates", "tasks")
    vectors = [one for name in names for one in json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))]
    return [one for one in vectors if isinstance(one.get("job"), dict) and "chunkable_attrs" in one]


VECTORS = golden_jobs()


@st.composite
def mutated_vectors(draw: Any) -> tuple[Any, list[Any], Any]:
    """Draw a job with faults, with its levels and the variants of them."""
    vector = draw(st.sampled_from(VECTORS))
    job = copy.deepcopy(vector["job"])
    for _ in range(draw(st.integers(1, 4))):
        job = mutated(job, draw)
    return job, vector["chunkable_attrs"], vector.get("job_schema_variants", {})


def mutated(value: Any, draw: Any) -> Any:
    """Return a value with a fault somewhere in it."""
    chance: random.Random = draw(st.randoms(use_true_random=False))
    place = value
    while isinstance(place, (dict, list)) and place and chance.random() < 0.7:
        key = chance.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if isinstance(place[key], Deep) or not isinstance(place[key], (dict, list)) or chance.random() < 0.4:
            return _with_fault(value, place, key, draw, chance)
        place = place[key]
    if isinstance(place, dict):
        place[draw(WORD)] = draw(HOSTILE)
        return value
    if isinstance(place, list) and not isinstance(place, Deep):
        place.insert(0, draw(HOSTILE))
        return value
    return draw(HOSTILE)


def _with_fault(whole: Any, place: Any, key: Any, draw: Any, chance: random.Random) -> Any:
    fault = chance.choice(["replace", "replace", "remove", "rename", "wrap", "copy", "unsayable"])
    if fault == "remove":
        del place[key]
    elif fault == "rename" and isinstance(place, dict):
        place[draw(WORD)] = place.pop(key)
    elif fault == "wrap":
        place[key] = [place[key]] if chance.random() < 0.5 else {draw(WORD): place[key]}
    elif fault == "copy" and isinstance(place, dict):
        place[f"{key}s"] = copy.deepcopy(place[key])
    elif fault == "unsayable":
        place[key] = draw(UNSAYABLE)
    else:
        place[key] = draw(HOSTILE)
    return whole
