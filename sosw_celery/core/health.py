"""How a labourer feels about the metrics it depends on, and how much of its cap that leaves it.

A metric has `feelings`: for each eco status the value that it is compared with. The first status whose comparison
holds, best first, is how the labourer feels; none holds: `BAD`. Of several metrics the worst one counts. A status has a
coefficient; the labourer's cap times that is how many of its attempts may run when another one starts, it included.

A status gets worse at its value, as in sosw, and better only a margin beyond it, so that a metric at the edge does not
flap.
"""

from __future__ import annotations

import enum
import hashlib
import itertools
import json
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

__all__ = [
    "COEFFICIENTS",
    "EcoStatus",
    "Feelings",
    "Metric",
    "Reading",
    "allowed",
    "feel",
    "is_due",
    "is_lasting",
    "judge",
    "parse_feelings",
    "parse_operator",
    "settle",
    "worst",
]


class EcoStatus(enum.IntEnum):
    """How healthy a labourer is; comments give the share of its cap that it has unless configured otherwise."""

    BAD = 0  # nothing new starts
    POOR = 1  # nothing new starts
    MODERATE = 2  # half of the cap
    GOOD = 3  # three quarters
    HIGH = 4  # all of it


#: sosw's `invocation_number_coefficient`.
COEFFICIENTS: Mapping[EcoStatus, float] = {
    EcoStatus.BAD: 0.0,
    EcoStatus.POOR: 0.0,
    EcoStatus.MODERATE: 0.5,
    EcoStatus.GOOD: 0.75,
    EcoStatus.HIGH: 1.0,
}

#: The names of Python's `operator` module are those that sosw understands, the signs those that its documents show.
_NAMES = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "eq": operator.eq,
    "ne": operator.ne,
}
#: In which direction a value has to go to get better; the others have no direction, and so no margin.
_BETTER = {"lt": -1, "le": -1, "gt": 1, "ge": 1}

#: Share of a threshold that a value has to be beyond it before the status gets better.
RELATIVE_MARGIN = 0.05
#: Seconds until a source that failed is asked again, unless its metric is read more often than that.
RETRY_S = 10.0
#: A product like 0.29 * 100 is a hair below what it means.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Feelings:
    """The statuses with the values that make them, best status first.

    Parameters:
        operator: One of `lt`, `le`, `gt`, `ge`, `eq`, `ne`: how a metric compares with a threshold to deserve it.
        margin: How far beyond a threshold a value has to be for the status to get better, in the metric's own unit;
            None is 5 % of the threshold.
    """

    thresholds: tuple[tuple[EcoStatus, float], ...]
    operator: str
    margin: float | None = None

    def tightened(self) -> Feelings:
        """Return the feelings with which a status gets better."""
        way = _BETTER.get(self.operator, 0)
        return Feelings(
            tuple((status, threshold + way * self._margin_of(threshold)) for status, threshold in self.thresholds),
            self.operator,
            0.0,
        )

    def _margin_of(self, threshold: float) -> float:
        return abs(threshold) * RELATIVE_MARGIN if self.margin is None else self.margin


def parse_operator(comparison: str) -> str:
    """Return the one name of a comparison: `lt`, `le`, `gt`, `ge`, `eq` or `ne`.

    Parameters:
        comparison: `<`, `<=`, `>`, `>=`, `==`, `!=`, or the name that Python's `operator` module has for it.

    Raises:
        ValueError: It is none of these; the text says what is expected.
    """
    name = _NAMES.get(comparison, comparison)
    if name not in _OPERATORS:
        raise ValueError(f"one of {', '.join((*_NAMES, *_OPERATORS))}")
    return name


def parse_feelings(feelings: Mapping[Any, Any], comparison: str, margin: float | None = None) -> Feelings:
    """Return what a metric's `feelings` and `feeling_comparison_operator` state.

    Parameters:
        feelings: Eco status 0 to 4, as a number or its text, -> threshold.

    Raises:
        ValueError: Something of it means nothing, or a worse status asks for more than a better one; the text says what
            is expected.
    """
    name = parse_operator(comparison)
    thresholds = sorted(((_status(key), _number(value)) for key, value in feelings.items()), reverse=True)
    if not thresholds or len({status for status, _ in thresholds}) < len(thresholds):
        raise ValueError("one value for each of some eco statuses")
    way = _BETTER.get(name, 0)
    for (better, stricter), (worse, looser) in itertools.pairwise(thresholds):
        if (looser - stricter) * way > 0:
            side = "not above" if way > 0 else "not below"
            raise ValueError(f"a value for {worse:d} that is {side} that for {better:d}, since {comparison!r} compares")
    return Feelings(tuple(thresholds), name, margin)


def feel(value: float, feelings: Feelings) -> EcoStatus:
    """Return the best status whose comparison holds, `BAD` if none does."""
    compare = _OPERATORS[feelings.operator]
    return next((status for status, threshold in feelings.thresholds if compare(value, threshold)), EcoStatus.BAD)


def settle(previous: EcoStatus | None, value: float, feelings: Feelings) -> EcoStatus:
    """Return the status that follows on `previous` (None: on none) when the metric has this value.

    It gets worse at once, and better only as far as the value is beyond the thresholds by their margins. So values that
    differ by less than the margin never change it back and forth.
    """
    felt = feel(value, feelings)
    if previous is None or felt <= previous:
        return felt
    return max(previous, feel(value, feelings.tightened()))


def worst(statuses: Iterable[EcoStatus]) -> EcoStatus:
    """Return the lowest status, `HIGH` of none."""
    return min(statuses, default=EcoStatus.HIGH)


def allowed(cap: int, coefficient: float) -> int:
    """Return how many attempts may run: the whole part of the cap times the coefficient."""
    return math.floor(cap * coefficient + ROUNDING)


@dataclass(frozen=True)
class Metric:
    """One of a labourer's metrics, every value stated.

    Parameters:
        name: What users call it; nothing depends on it.
        source: Who is asked: `cloudwatch`, `prometheus`, `callable`, or a name of one's own.
        details: What the source is asked, complete.
        refresh_s: Seconds between two readings.
        timeout_s: Seconds that the source has to answer.
        grace_s: Seconds after the next reading was due in which the last one still counts.
        fallback: Status when there is no reading that counts.
    """

    name: str
    source: str
    details: Mapping[str, Any]
    feelings: Feelings
    refresh_s: float = 60.0
    timeout_s: float = 5.0
    grace_s: float = 120.0
    fallback: EcoStatus = EcoStatus.HIGH

    @property
    def lasts_s(self) -> float:
        """Seconds for which a reading counts."""
        return self.refresh_s + self.grace_s

    @cached_property
    def digest(self) -> str:
        """A name for what is read: the same for all metrics that ask the same source for the same."""
        return _digest([self.source, self.details])

    @cached_property
    def feelings_digest(self) -> str:
        """A name for how it is felt about: metrics that share a reading may feel differently."""
        return _digest([self.feelings.thresholds, self.feelings.operator, self.feelings.margin])


@dataclass(frozen=True)
class Reading:
    """What is known of a metric. Ages are seconds.

    Parameters:
        value: The last one read, None if there is none.
        age_s: Since then.
        statuses: How it is felt about, by `Metric.feelings_digest`.
        failed_s: Since the source last failed; None if it answered after that.
        problem: How it failed.
    """

    value: float | None = None
    age_s: float | None = None
    statuses: Mapping[str, EcoStatus] = field(default_factory=dict)
    failed_s: float | None = None
    problem: str = ""


def is_due(metric: Metric, reading: Reading) -> bool:
    """Return whether the source should be asked (again)."""
    age_s = math.inf if reading.age_s is None else reading.age_s
    failed_s = math.inf if reading.failed_s is None else reading.failed_s
    return age_s >= metric.refresh_s and failed_s >= min(metric.refresh_s, RETRY_S)


def is_lasting(metric: Metric, reading: Reading) -> bool:
    """Return whether the value still counts."""
    return reading.value is not None and reading.age_s is not None and reading.age_s <= metric.lasts_s


def judge(metric: Metric, reading: Reading) -> EcoStatus | None:
    """Return the status that a metric gives: by its last value as long as that counts, then the fallback.

    None: there is none, and no failure lately either. The source is about to answer.
    """
    if is_lasting(metric, reading) and reading.value is not None:
        known = reading.statuses.get(metric.feelings_digest)
        return feel(reading.value, metric.feelings) if known is None else known
    if reading.failed_s is not None and reading.failed_s <= metric.lasts_s:
        return metric.fallback
    return None


def _status(key: object) -> EcoStatus:
    try:
        return EcoStatus(int(str(key)))
    except ValueError:
        raise ValueError("eco statuses 0 to 4") from None


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError("numbers to compare with")
    return float(value)


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, default=_name)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _name(value: object) -> str:
    """A text for what JSON cannot hold: a function's is the same in every process."""
    module, name = getattr(value, "__module__", ""), getattr(value, "__qualname__", "")
    return f"{module}:{name}" if name else str(value)
