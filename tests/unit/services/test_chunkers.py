"""Periods of one's own, as sosw's configuration names them."""

from __future__ import annotations

from typing import Any

import pytest

from sosw_celery.config.settings import load_settings
from sosw_celery.errors import ConfigError, InvalidJob
from sosw_celery.services.chunkers import Chunkers

JOB = {"lambda_name": "resize", "period": "last_3_quarters"}


class Quarters(Chunkers):
    """As a Scheduler of sosw's users: a method for each pattern of the configuration."""

    def last_x_quarters(self, pattern: str) -> list[str]:
        """Return one date, with the number of the period's text as its day."""
        return [f"2026-01-0{pattern.split('_')[1]}"]


def test_a_list_of_patterns_calls_methods() -> None:
    """The pasted list of sosw works with the subclass that it was written for."""
    settings = load_settings({"custom_period_patterns": ["last_[0-9]+_quarters"]})
    chunkers = Quarters(settings)
    chunkers.check_periods()
    assert [payload["date_list"] for payload in chunkers.payloads(JOB)] == [["2026-01-03"]]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("last_x_quarters", "a method of Chunkers; scheduler_class names the class"),
        ("no_such_module:quarters", "No module named 'no_such_module'"),
        ("json:quarters", "has no attribute 'quarters'"),
        (":quarters", "a function that can be imported"),
    ],
)
def test_a_period_without_its_function_is_a_wrong_configuration(value: str, expected: str) -> None:
    """It is named before any job needs it."""
    chunkers = Chunkers(load_settings({"custom_period_patterns": {"quarters": value}}))
    with pytest.raises(ConfigError, match=r"sosw\.custom_period_patterns\.quarters") as caught:
        chunkers.check_periods()
    assert expected in str(caught.value)


@pytest.mark.parametrize("job", [None, 7, ["a"]])
def test_what_is_no_job_is_refused_by_every_method(job: Any) -> None:
    """The methods of sosw's names refuse as chunking does, with the path."""
    chunkers = Chunkers(load_settings({"job_schema": {"chunkable_attrs": ["section"]}}))
    for refuse in (
        lambda: chunkers.chunk_dates(job),
        lambda: chunkers.chunk_job(job),
        lambda: chunkers.construct_job_data(job),
        lambda: chunkers.needs_chunking("sections", job),
        lambda: chunkers.payloads(job),
    ):
        with pytest.raises(InvalidJob) as refusal:
            refuse()
        assert refusal.value.path == "job"
