"""A configuration with a local stack in place of its own servers."""

from __future__ import annotations

from typing import Any

import pytest

from sosw_celery.config.settings import load_settings
from sosw_celery.local.configuration import configured_for, left_out

STACK = {
    "SOSW_REDIS_URL": "redis://127.0.0.1:4242/0",
    "SOSW_DYNAMODB_ENDPOINT": "http://127.0.0.1:4343",
    "SOSW_QUEUE_BUCKET": "file:///stack/queue",
}
SNS = {"recipient": "arn:aws:sns:eu-west-1:123456789012:dead"}


def test_every_server_of_the_configuration_gives_way_to_the_stack() -> None:
    """Broker, results, slots, tables and queue files; what else is configured stays."""
    conf = {
        "broker_url": "amqps://user:secret@rabbit.example.org//",
        "broker_use_ssl": {"ca_certs": "ca.pem"},
        "broker_transport_options": {"confirm_publish": True},
        "result_backend": "rediss://cache.example.org/1",
        "imports": ("prices",),
        "sosw": {"redis_url": "rediss://cache.example.org/0", "queue_bucket": "production", "labourers": {"a": {}}},
    }
    found = configured_for(conf, STACK)
    assert found == {
        "broker_url": STACK["SOSW_REDIS_URL"],
        "result_backend": STACK["SOSW_REDIS_URL"],
        "imports": ("prices",),
        "sosw": {
            "labourers": {"a": {}},
            "redis_url": STACK["SOSW_REDIS_URL"],
            "dynamodb_endpoint": STACK["SOSW_DYNAMODB_ENDPOINT"],
            "queue_bucket": STACK["SOSW_QUEUE_BUCKET"],
            "aws_region": "eu-west-1",
        },
    }
    assert load_settings(found["sosw"]).dynamodb_endpoint == STACK["SOSW_DYNAMODB_ENDPOINT"]


def test_a_configuration_that_names_no_server_does_not_mean_aws() -> None:
    """What is not stated would have been AWS's own, or a default."""
    found = configured_for({"sosw": {"labourers": {}}}, STACK)
    assert (found["broker_url"], found["result_backend"]) == (STACK["SOSW_REDIS_URL"],) * 2
    assert found["sosw"]["dynamodb_endpoint"] == STACK["SOSW_DYNAMODB_ENDPOINT"]


def test_a_variable_that_names_another_broker_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever exports it wants to try that broker; its options are kept."""
    monkeypatch.setenv("SOSW_BROKER_URL", "amqp://127.0.0.1:5672//")
    conf = {"broker_url": "amqp://127.0.0.1:5672//", "broker_transport_options": {"confirm_publish": True}}
    found = configured_for({**conf, "result_backend": "redis://elsewhere/0"}, STACK)
    assert {name: found[name] for name in conf} == conf
    assert found["result_backend"] == STACK["SOSW_REDIS_URL"]


@pytest.mark.parametrize(
    ("section", "keys", "rest"),
    [
        ({"sns_config": SNS}, ["sns_config"], {"sns_config": {}}),
        (
            {"notices": {"webhook": "https://hooks.example.org/x", "every_s": 5}},
            ["notices.webhook"],
            {"notices": {"every_s": 5}},
        ),
        ({"notices": {"call": "mine:tell"}}, [], {"notices": {"call": "mine:tell"}}),
        ({}, [], {}),
    ],
)
def test_nobody_beyond_the_machine_is_told_of_dead_tasks(
    section: dict[str, Any], keys: list[str], rest: dict[str, Any]
) -> None:
    """Topic and webhook are left out, and named; a function of one's own is called."""
    found = configured_for({"sosw": section}, STACK)["sosw"]
    assert {name: found[name] for name in rest} == rest
    assert left_out(section) == keys
    assert load_settings({name: found[name] for name in rest}).sns_config.recipient == ""


def test_a_section_that_is_none_is_left_to_be_refused() -> None:
    """The error about it is the configuration's own."""
    assert configured_for({"sosw": ["labourers"]}, STACK)["sosw"] == ["labourers"]
