"""How metrics are felt about."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sosw_celery.core.health import (
    EcoStatus,
    Feelings,
    Metric,
    Reading,
    allowed,
    feel,
    is_due,
    judge,
    parse_feelings,
    parse_operator,
    settle,
    worst,
)

#: sosw's documented example: load of a database.
LOAD = parse_feelings({3: 50, 4: 25}, "<=")
#: The same the other way round: free memory.
FREE = parse_feelings({4: 80, 3: 40, 2: 20}, ">=")

VALUES = st.floats(-1e6, 1e6, allow_nan=False)


@st.composite
def feelings(draw: st.DrawFn) -> Feelings:
    """Any feelings that can be configured."""
    name = draw(st.sampled_from(["lt", "le", "gt", "ge", "eq", "ne"]))
    statuses = draw(st.lists(st.sampled_from(list(EcoStatus)), unique=True, min_size=1))
    values = sorted(draw(st.lists(VALUES, min_size=len(statuses), max_size=len(statuses))))
    best_first = sorted(statuses, reverse=True)
    ordered = values if name in ("lt", "le") else values[::-1]
    margin = draw(st.none() | st.floats(0, 1000))
    return parse_feelings(dict(zip(best_first, ordered, strict=True)), name, margin)


@pytest.mark.parametrize(
    ("value", "status"), [(0, 4), (25, 4), (25.1, 3), (50, 3), (50.1, 0), (math.inf, 0), (-math.inf, 4)]
)
def test_the_best_status_whose_comparison_holds_is_felt(value: float, status: int) -> None:
    """With `<=`, values up to a threshold deserve its status; above all of them it is bad."""
    assert feel(value, LOAD) == status


@pytest.mark.parametrize(("value", "status"), [(90, 4), (80, 4), (79, 3), (40, 3), (20, 2), (19, 0)])
def test_more_may_be_better(value: float, status: int) -> None:
    """With `>=`, values from a threshold on deserve its status; sosw refuses every such order."""
    assert feel(value, FREE) == status


@pytest.mark.parametrize(
    ("comparison", "name"),
    [("<=", "le"), ("le", "le"), ("<", "lt"), (">=", "ge"), (">", "gt"), ("==", "eq"), ("ne", "ne")],
)
def test_comparisons_are_signs_or_names(comparison: str, name: str) -> None:
    """The signs are those of sosw's documents, the names those that its code understands."""
    assert parse_operator(comparison) == name


@pytest.mark.parametrize(
    ("stated", "comparison", "expected"),
    [
        ({4: 50, 3: 25}, "<=", "a value for 3 that is not below that for 4"),
        ({4: 25, 3: 50}, "ge", "a value for 3 that is not above that for 4"),
        ({5: 1}, "<=", "eco statuses 0 to 4"),
        ({"good": 1}, "<=", "eco statuses 0 to 4"),
        ({3: 1, "3": 2}, "<=", "one value for each"),
        ({}, "<=", "one value for each"),
        ({4: "25"}, "<=", "numbers"),
        ({4: True}, "<=", "numbers"),
        ({4: math.nan}, "<=", "numbers"),
        ({4: 25}, "=<", "one of <, <="),
    ],
)
def test_feelings_that_mean_nothing_are_refused(stated: dict[Any, Any], comparison: str, expected: str) -> None:
    """What can never be felt, or not be compared, is named with what is expected."""
    with pytest.raises(ValueError, match=expected):
        parse_feelings(stated, comparison)


def test_feelings_from_json_have_texts_as_keys() -> None:
    """A configuration that was stored as JSON means the same."""
    assert parse_feelings({"3": 50, "4": 25}, "<=") == LOAD


@pytest.mark.parametrize(
    ("previous", "value", "status"),
    [
        (None, 25, 4),
        (4, 25.1, 3),  # worse at the threshold
        (3, 25, 3),  # better only beyond its margin
        (3, 23.8, 3),
        (3, 23.75, 4),
        (0, 49, 0),
        (0, 47.5, 3),
        (0, 24.5, 3),  # two better: one for sure, the other not yet
        (0, 10, 4),
        (2, 10, 4),
        (2, 49, 2),
    ],
)
def test_a_status_gets_worse_at_its_threshold_and_better_beyond_the_margin(
    previous: int | None, value: float, status: int
) -> None:
    """The margin is 5 % of the threshold unless configured."""
    assert settle(None if previous is None else EcoStatus(previous), value, LOAD) == status


def test_the_margin_may_be_configured_in_the_metrics_unit() -> None:
    """A threshold of 0 has no percentage; a margin of its own says what counts as recovered."""
    lag = parse_feelings({4: 0}, "<=", 2)
    assert settle(EcoStatus.BAD, -1, lag) == EcoStatus.BAD
    assert settle(EcoStatus.BAD, -2, lag) == EcoStatus.HIGH


@given(feelings=feelings(), value=VALUES, previous=st.none() | st.sampled_from(list(EcoStatus)))
def test_hysteresis_only_delays_getting_better(feelings: Feelings, value: float, previous: EcoStatus | None) -> None:
    """A status is never better than what is felt, and never worse than what was and what is."""
    settled = settle(previous, value, feelings)
    felt = feel(value, feelings)
    assert settled <= felt
    assert settled >= min(felt, felt if previous is None else previous)


@given(
    low=st.floats(-1000, 1000, allow_nan=False),
    noise=st.lists(st.floats(0, 0.99), min_size=2, max_size=60),
    thresholds=st.lists(st.floats(-1000, 1000, allow_nan=False), min_size=1, max_size=4, unique=True),
    way=st.sampled_from(["<=", "<", ">=", ">"]),
)
def test_a_metric_at_the_edge_does_not_flap(low: float, noise: list[float], thresholds: list[float], way: str) -> None:
    """Whatever values come that differ by less than the margin, the status never gets better again."""
    ordered = sorted(thresholds, reverse=way.startswith(">"))
    felt = parse_feelings({4 - place: value for place, value in enumerate(ordered)}, way, 1.0)
    statuses = [settle(None, low + noise[0], felt)]
    for value in noise[1:]:
        statuses.append(settle(statuses[-1], low + value, felt))
    assert all(later <= earlier for earlier, later in itertools.pairwise(statuses))


def test_the_worst_metric_counts() -> None:
    """Of several statuses the lowest one; without metrics all is well."""
    assert worst([EcoStatus.HIGH, EcoStatus.POOR, EcoStatus.GOOD]) == EcoStatus.POOR
    assert worst([]) == EcoStatus.HIGH


@pytest.mark.parametrize(
    ("cap", "coefficient", "runs"),
    [(10, 1, 10), (10, 0.75, 7), (1, 0.75, 0), (10, 0, 0), (100, 0.29, 29), (3, 1 / 3, 1), (10, 0.7, 7)],
)
def test_the_whole_part_of_the_cap_may_run(cap: int, coefficient: float, runs: int) -> None:
    """Products are rounded down, without falling to the next number for a binary fraction's sake."""
    assert allowed(cap, coefficient) == runs


def metric(**values: Any) -> Metric:
    """A metric that is read each 60 s, lasts 120 s more, and falls back to status 2."""
    return Metric("load", "callable", {"function": "m:f"}, LOAD, fallback=EcoStatus.MODERATE, **values)


def test_what_a_metric_asks_names_its_reading() -> None:
    """Metrics that ask the same share a reading, whatever they feel; the order of details does not matter."""
    one = Metric("a", "cloudwatch", {"x": 1, "y": [2]}, LOAD)
    same = Metric("b", "cloudwatch", {"y": [2], "x": 1}, FREE, refresh_s=5)
    assert one.digest == same.digest
    assert one.feelings_digest != same.feelings_digest
    assert one.digest != Metric("a", "prometheus", {"x": 1, "y": [2]}, LOAD).digest
    assert one.digest != Metric("a", "cloudwatch", {"x": 2, "y": [2]}, LOAD).digest


def test_a_function_is_named_alike_in_every_process() -> None:
    """Not by its address in memory."""
    named = Metric("a", "callable", {"function": feel}, LOAD).digest
    assert named == Metric("a", "callable", {"function": "sosw_celery.core.health:feel"}, LOAD).digest


@pytest.mark.parametrize(
    ("reading", "due"),
    [
        (Reading(), True),
        (Reading(value=1, age_s=59.9), False),
        (Reading(value=1, age_s=60), True),
        (Reading(value=1, age_s=80, failed_s=9), False),
        (Reading(value=1, age_s=80, failed_s=10), True),
        (Reading(value=1, age_s=59, failed_s=30), False),
        (Reading(failed_s=9), False),
        (Reading(failed_s=10), True),
    ],
)
def test_a_source_is_asked_once_a_period_and_again_soon_after_a_failure(reading: Reading, due: bool) -> None:
    """Every 60 s here; 10 s after it failed."""
    assert is_due(metric(), reading) is due


def test_a_metric_that_is_read_often_is_asked_again_as_often_after_a_failure() -> None:
    """The wait after a failure is never longer than the period."""
    assert is_due(metric(refresh_s=1.0), Reading(value=1, age_s=5, failed_s=1))


@pytest.mark.parametrize(
    ("reading", "status"),
    [
        (Reading(value=30, age_s=10), 3),
        (Reading(value=30, age_s=180), 3),
        (Reading(value=30, age_s=170, failed_s=1, problem="away"), 3),  # the last value counts on for a while
        (Reading(value=30, age_s=181, failed_s=1, problem="away"), 2),
        (Reading(failed_s=1, problem="away"), 2),
        (Reading(value=30, age_s=181), None),  # nobody asked for long
        (Reading(value=30, age_s=9999, failed_s=9000, problem="away"), None),
        (Reading(), None),
    ],
)
def test_the_last_value_counts_then_the_fallback(reading: Reading, status: int | None) -> None:
    """A failing source changes nothing at once; nothing known at all is no status."""
    assert judge(metric(), reading) == status


def test_the_settled_status_counts_rather_than_what_the_value_alone_says() -> None:
    """The cluster's hysteresis is in the reading; a process that feels otherwise (another configuration) feels anew."""
    one = metric()
    settled = Reading(value=24, age_s=1, statuses={one.feelings_digest: EcoStatus.GOOD})
    assert judge(one, settled) == EcoStatus.GOOD
    assert judge(one, Reading(value=24, age_s=1, statuses={"another": EcoStatus.BAD})) == EcoStatus.HIGH
