"""Secrets are not shown."""

from __future__ import annotations

from typing import Any

import pytest

from sosw_celery.config.masking import masked, secrets_in


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("redis://:hush@host:6379/0", "redis://:***@host:6379/0"),
        ("rediss://user:hu/sh;a,b@host:6379", "rediss://user:***@host:6379"),
        ("amqp://guest:hu@sh@host//", "amqp://guest:***@host//"),
        ("sentinel://:hush@a:1;sentinel://:hush@b:2/0", "sentinel://:***@a:1;sentinel://:***@b:2/0"),
        ("sqs://KEY:hush/hush@", "sqs://KEY:***@"),
        ("https://hush@host/x", "https://***@host/x"),
        ("redis://host?password=hush&db=0", "redis://host?password=***&db=0"),
        ("db+postgresql://u:hush@h/d?sslpassword=hush", "db+postgresql://u:***@h/d?sslpassword=***"),
        ("https://u:@host", "https://u:@host"),
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("file:///tmp/a@b", "file:///tmp/a@b"),
        ("someone@example.org", "someone@example.org"),
    ],
)
def test_addresses_lose_their_passwords(address: str, shown: str) -> None:
    """Whatever its owner forgot to quote; the rest can be read."""
    assert masked(address) == shown
    assert "hush" not in masked(address)


@pytest.mark.parametrize(
    ("value", "name", "shown"),
    [
        ("x", "consumer_secret", "***"),
        ("x", "brokerPassword", "***"),
        ({"consumer": "x", "on": None}, "credentials", {"consumer": "***", "on": None}),
        ([1], "access_token", "***"),
        ("", "api_key", ""),
        (None, "password", None),
        ("https://hooks.example.org/T0/B0/x", "webhook_url", "***"),
        ("x", "monkey", "x"),
        ("sosw", "keyspace", "sosw"),
    ],
)
def test_values_are_masked_by_their_names(value: Any, name: str, shown: Any) -> None:
    """A name that speaks of a secret is enough; nothing is shown as nothing."""
    assert masked(value, name) == shown


def test_masking_goes_all_the_way_down() -> None:
    """Dicts, lists and tuples keep their shape."""
    value = {"a": [{"password": "x", "n": 1}], "b": ("redis://:x@h", 2), "c": {"tokens": {"inner": ["x"]}}}
    assert masked(value) == {
        "a": [{"password": "***", "n": 1}],
        "b": ("redis://:***@h", 2),
        "c": {"tokens": {"inner": "***"}},
    }


def test_a_secret_is_masked_by_whatever_name_it_stands_there() -> None:
    """A module may hold it as a variable, and within another text; short words and addresses are no such secrets."""
    hook = "https://hooks.example.org/T0/B0/x"
    settings = {"SLACK": hook, "sosw": {"notices": {"webhook": hook, "tokens": ["on", 7]}}, "text": f"see {hook}, on"}
    assert set(secrets_in(settings)) == {hook}
    assert masked(settings, copies_of={hook}) == {
        "SLACK": "***",
        "sosw": {"notices": {"webhook": "***", "tokens": "***"}},
        "text": "see ***, on",
    }
