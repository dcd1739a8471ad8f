"""What the `sosw` section may say as a whole."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from sosw_celery.config.settings import load_settings, read_settings
from sosw_celery.errors import ConfigError


def test_labourers_may_stand_where_sosw_has_them() -> None:
    """A pasted `task_config` brings its labourers along."""
    settings = load_settings(
        {"task_config": {"labourers": {"inner": {"duration": 60}}}, "labourers": {"outer": {"duration": 30}}}
    )
    assert settings.labourers.keys() == {"inner", "outer"}


def test_a_labourer_that_differs_between_both_places_is_refused() -> None:
    """Which of two settings holds is not guessed."""
    with pytest.raises(ConfigError, match="resize differ in labourers and in task_config"):
        load_settings({"task_config": {"labourers": {"resize": {}}}, "labourers": {"resize": {"duration": 3}}})


def test_requests_with_rows_are_over_when_the_lease_is() -> None:
    """Whatever the lease: sending and answer fit into its last fifth, and neither takes longer than ten seconds."""
    for lease_s in (1, 30, 100, 86_400):
        settings = load_settings({"part_lease_s": lease_s})
        assert 2 * settings.row_timeout_s <= settings.part_margin_s <= lease_s / 5
        assert settings.row_timeout_s <= 10


def test_settings_do_not_change() -> None:
    """Settings are values: nobody can change them under another's feet."""
    with pytest.raises(ValidationError):
        load_settings({}).max_attempts = 4  # type: ignore[misc]


def test_all_problems_are_read_whatever_they_are() -> None:
    """Reading a section raises nothing: a metric that means nothing is a problem beside the others."""
    nonsense = {"source": "nobody", "details": {}, "feelings": {4: 1}, "feeling_comparison_operator": "<"}
    reading = read_settings({"labourers": {"a": {"rate_burst": 2, "health_metrics": {"load": nonsense}}}})
    assert [problem.key for problem in reading.problems] == [
        "sosw.labourers.a.rate_burst",
        "sosw.labourers.a.health_metrics.load.source",
    ]
