"""Laying configurations over each other."""

from __future__ import annotations

from sosw_celery.core.deep_merge import merged_deeply


def test_dicts_are_joined_and_the_last_one_that_states_a_value_wins() -> None:
    """Key by key, at any depth; a list replaces a list, a dict a value and a value a dict."""
    base = {"a": {"b": 1, "c": [1, 2]}, "d": None, "e": {"f": 1}}
    assert merged_deeply(base, {"a": {"c": [3]}, "d": {"g": 1}, "e": 0}, {"a": {"h": 2}}) == {
        "a": {"b": 1, "c": [3], "h": 2},
        "d": {"g": 1},
        "e": 0,
    }


def test_nothing_is_shared_with_the_arguments() -> None:
    """What is changed in the result is not changed in a DEFAULT_CONFIG."""
    base = {"a": {"b": [1]}}
    merged = merged_deeply(base)
    merged["a"]["b"].append(2)
    assert base == {"a": {"b": [1]}}
