"""What a wrong setting is told: where it stands, what it is, and what is expected there."""

from __future__ import annotations

from typing import Any

import pytest

from sosw_celery.config.settings import load_settings
from sosw_celery.errors import ConfigError


@pytest.mark.parametrize(
    ("section", "key", "expected"),
    [
        ({"labourers": {"r": {"max_simultaneous_invocations": 0}}}, "labourers.r.max_simultaneous_invocations", "1"),
        ({"labourers": {"r": {"duraton": 3}}}, "labourers.r.duraton", "did you mean 'duration'"),
        ({"labourers": {"r": {"rate_limit": "fast"}}}, "labourers.r.rate_limit", "a rate above 0"),
        ({"dynamodb_endpoint": "localhost:8000"}, "sosw.dynamodb_endpoint", "an address with its scheme"),
        ({"s3_endpoint": "minio"}, "sosw.s3_endpoint", "an address with its scheme"),
        ({"ecology_config": {"cloudwatch_endpoint": ":5000"}}, "cloudwatch_endpoint", "an address with its scheme"),
        ({"labourers": {"a b": {}}}, "sosw.labourers", "names of at most 140 letters"),
        ({"labourers": {"a\n": {}}}, "sosw.labourers", "names of at most 140 letters"),
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
        ({"meta_handler_config": {"dynamo_db_config": {"row_maper": {}}}}, "dynamo_db_config.row_maper", "row_mapper"),
        ({"job_schema_variants": {"own": {"chunkable": []}}}, "job_schema_variants.own.chunkable", "chunkable_attrs"),
        ({"job_schema": {"chunkable_attrs": ["address"]}}, "job_schema.chunkable_attrs", "plural"),
        ({"lease_s": 4, "renew_s": 3}, "sosw.renew_s", "at most half of lease_s"),
        ({"safety_net_s": 4, "hint_lease_s": 6}, "sosw.safety_net_s", "at most half of hint_lease_s"),
        ({"settle_s": 1}, "sosw.settle_s", "more than renew_s"),
        ({"labourers": {"a": {"rate_burst": 2}}}, "sosw.labourers.a.rate_burst", "a rate_limit beside it"),
        ({"labourers": {"a": {"rate_limit": "1/s", "rate_burst": 0}}}, "sosw.labourers.a.rate_burst", "greater than"),
        ([], "sosw", "a dict of settings"),
        ({"labourers": {5: {}}}, "sosw.labourers:", "keys that are texts, got 5"),
        ({"labourers": {"a": {5: 1}}}, "sosw.labourers.a:", "keys that are texts, got 5"),
        ({5: {}}, "sosw:", "keys that are texts, got 5"),
        (
            {"labourers": {"a": {"max_simultaneous_invocations": True}}},
            "max_simultaneous_invocations",
            "a number, got True",
        ),
        ({"labourers": {"a": {"retry_backoff": False}}}, "sosw.labourers.a.retry_backoff", "a number, got False"),
        ({"sweep_s": True}, "sosw.sweep_s", "a number, got True"),
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


def test_a_refused_section_does_not_show_its_passwords() -> None:
    """An error about the section as a whole names its keys, not its values."""
    both = {"task_config": {"labourers": {"r": {}}}, "labourers": {"r": {"duration": 3}}}
    with pytest.raises(ConfigError) as caught:
        load_settings({"redis_url": "redis://:secret@host", **both})
    assert "secret" not in str(caught.value)
