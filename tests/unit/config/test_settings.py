"""What the `sosw` section may say, and what a wrong one is told."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from sosw_celery.config.settings import greenfield_delta, load_settings
from sosw_celery.core.rates import Rate
from sosw_celery.core.tasks import greenfield
from sosw_celery.core.tasks.retrying import RetryPolicy
from sosw_celery.errors import ConfigError

NOW = Decimal(1_795_392_000)


def test_labourers_have_the_values_of_the_section_unless_they_state_their_own() -> None:
    """A labourer's own settings win; what it does not state is taken from the section."""
    settings = load_settings(
        {
            "max_attempts": 7,
            "retry_backoff": 2,
            "labourers": {
                "plain": {"max_simultaneous_invocations": 4},
                "own": {"max_attempts": 1, "retry_jitter": False, "rate_limit": "90/m", "duration": 30, "cooldown": 5},
            },
        }
    )
    assert settings.labourer("plain").slots == 4
    assert settings.labourer("plain").retry_policy == RetryPolicy(7, 2, 600, jitter=True)
    own = settings.labourer("own")
    assert own.retry_policy == RetryPolicy(1, 2, 600, jitter=False)
    assert (own.rate, own.duration_s, own.cooldown_s) == (Rate(90, 60), 30, 5)
    assert settings.labourer("nobody configured").slots == 1


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


@pytest.mark.parametrize(
    ("section", "key", "expected"),
    [
        ({"labourers": {"r": {"max_simultaneous_invocations": 0}}}, "labourers.r.max_simultaneous_invocations", "1"),
        ({"labourers": {"r": {"duraton": 3}}}, "labourers.r.duraton", "did you mean 'duration'"),
        ({"labourers": {"r": {"rate_limit": "fast"}}}, "labourers.r.rate_limit", "a rate above 0"),
        ({"dynamodb_endpoint": "localhost:8000"}, "sosw.dynamodb_endpoint", "an address with its scheme"),
        ({"s3_endpoint": "minio"}, "sosw.s3_endpoint", "an address with its scheme"),
        ({"ecology_config": {"cloudwatch_endpoint": ":5000"}}, "cloudwatch_endpoint", "an address with its scheme"),
        ({"labourers": {"a b": {}}}, "sosw.labourers", "names of letters"),
        (
            {"labourers": {"scheduler": {}}},
            "sosw.labourers",
            "a name that no task or queue of sosw-celery or Celery has",
        ),
        ({"labourers": {"r": {}, "sosw.dispatch": {}}}, "sosw.labourers", "got 'sosw.dispatch'"),
        ({"task_config": {"labourers": {"sosw_scheduler": {}}}}, "sosw.labourers", "got 'sosw_scheduler'"),
        ({"labourers": {"r": {"retry_backoff": 1e9}}}, "labourers.r.retry_backoff", "315576000"),
        ({"labourers": {"r": {"retry_backoff_max": float("inf")}}}, "labourers.r.retry_backoff_max", "315576000"),
        ({"retry_backoff": float("nan")}, "retry_backoff", "0"),
        ({"retry_backoff_max": 1e9}, "retry_backoff_max", "315576000"),
        ({"max_atempts": 3}, "max_atempts", "did you mean 'max_attempts'"),
        ({"timezone": "Mars/Olympus"}, "timezone", "the name of a time zone"),
        ({"queue_bucket": "http://bucket"}, "queue_bucket", "the name of an S3 bucket"),
        ({"s3_prefix": "../up"}, "s3_prefix", "a relative name"),
        ({"s3_prefix": "a\0b"}, "s3_prefix", "control characters"),
        ({"queue_file": "..\\up.txt"}, "queue_file", "backslashes"),
        ({"queue_file": "/etc/passwd"}, "queue_file", "a relative name"),
        ({"task_config": {"dynamo_db_config": {"table": "x"}}}, "task_config.dynamo_db_config.table", "table_name"),
        ({"job_schema": {"chunkable_attrs": ["address"]}}, "job_schema.chunkable_attrs", "plural"),
        ({"lease_s": 4, "renew_s": 3}, "sosw.renew_s", "at most half of lease_s"),
        ({"safety_net_s": 4, "hint_lease_s": 6}, "sosw.safety_net_s", "at most half of hint_lease_s"),
        ({"settle_s": 1}, "sosw.settle_s", "more than renew_s"),
        ({"labourers": {"a": {"rate_burst": 2}}}, "sosw.labourers.a.rate_burst", "a rate_limit beside it"),
        ({"labourers": {"a": {"rate_limit": "1/s", "rate_burst": 0}}}, "sosw.labourers.a.rate_burst", "greater than"),
        ([], "sosw", "a dict of settings"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_expected(section: Any, key: str, expected: str) -> None:
    """The error gives the dotted path of the key and what may stand there."""
    with pytest.raises(ConfigError) as caught:
        load_settings(section)
    assert key in str(caught.value)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("section", "line"),
    [
        (
            {"job_schema_variants": {"default": {"chunkable_attrs": ["store", 5]}}},
            'sosw.job_schema_variants.default.chunkable_attrs[1]: expected names as "store", '
            'or pairs as ("city", {"plural": "cities"}), got 5',
        ),
        (
            {"job_schema": {"chunkable_attrs": "store"}},
            'sosw.job_schema.chunkable_attrs: expected a list of names as "store", '
            'or pairs as ("city", {"plural": "cities"}), got \'store\'',
        ),
    ],
)
def test_a_wrong_level_is_named_where_it_stands(section: Any, line: str) -> None:
    """In a variant as in the schema itself: one path, one expectation, the value that is wrong."""
    with pytest.raises(ConfigError) as caught:
        load_settings(section)
    assert str(caught.value) == line


def test_no_attempt_may_outlast_what_marks_it_as_running() -> None:
    """An invocation delta of a week and attempts of a week: after five days one would count as queued again."""
    section: dict[str, Any] = {
        "task_config": {"greenfield_invocation_delta": 604_800},
        "labourers": {"short": {}, "long": {"duration": 604_800}},
    }
    with pytest.raises(ConfigError) as caught:
        load_settings(section)
    assert str(caught.value) == (
        "sosw.task_config.greenfield_invocation_delta: expected more than 777900, so that no attempt of long that runs"
        " counts as queued: its duration (604800) and cooldown (300), and 172800 for clocks, got 604800"
    )
    section["task_config"]["greenfield_invocation_delta"] = 777_900
    with pytest.raises(ConfigError):
        load_settings(section)
    section["task_config"]["greenfield_invocation_delta"] = 777_901
    running = greenfield.claimed(NOW, greenfield_delta(load_settings(section)))
    assert running > greenfield.queue_end(NOW + 604_800 + 300 + greenfield.CLOCK_TOLERANCE)


def test_requests_with_rows_are_over_when_the_lease_is() -> None:
    """Whatever the lease: sending and answer fit into its last fifth, and neither takes longer than ten seconds."""
    for lease_s in (1, 30, 100, 86_400):
        settings = load_settings({"part_lease_s": lease_s})
        assert 2 * settings.row_timeout_s <= settings.part_margin_s <= lease_s / 5
        assert settings.row_timeout_s <= 10


def test_a_refused_section_does_not_show_its_passwords() -> None:
    """An error about the section as a whole names its keys, not its values."""
    both = {"task_config": {"labourers": {"r": {}}}, "labourers": {"r": {"duration": 3}}}
    with pytest.raises(ConfigError) as caught:
        load_settings({"redis_url": "redis://:secret@host", **both})
    assert "secret" not in str(caught.value)


def test_settings_do_not_change() -> None:
    """Settings are values: nobody can change them under another's feet."""
    with pytest.raises(ValidationError):
        load_settings({}).max_attempts = 4  # type: ignore[misc]


def test_a_labourer_may_state_its_burst() -> None:
    """How many start at once after a pause; else it is what the rate gives in a tenth of a second."""
    section = {"labourers": {"a": {"rate_limit": "100/s", "rate_burst": 3}, "b": {"rate_limit": "100/s"}}}
    rates = [load_settings(section).labourer(name).rate for name in "ab"]
    assert [rate.burst for rate in rates if rate] == [3, 10]
