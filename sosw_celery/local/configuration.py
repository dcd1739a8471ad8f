"""A configuration with the servers of a local stack in place of its own, so that it reaches nothing beyond them.

A configuration that was written for production names production's servers, or none, which means AWS. While a stack
runs in a directory, every program that reads its configuration there is to use the stack.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from sosw_celery.local.stack import AWS_STAND_INS, DYNAMODB_VARIABLE, QUEUE_VARIABLE, REDIS_VARIABLE

__all__ = ["configured_for", "left_out"]

#: Celery's settings of the broker and of results, with their names before Celery 4, and the variables that may name
#: servers beside the stack: whoever exports one says so on purpose.
OVERRIDES = (
    (("broker_url", "BROKER_URL", "broker_read_url", "broker_write_url"), "SOSW_BROKER_URL"),
    (("result_backend", "CELERY_RESULT_BACKEND"), "SOSW_RESULT_BACKEND"),
)
#: Settings that only fit the servers that the configuration names.
OF_OTHER_SERVERS = ("broker_use_ssl", "redis_backend_use_ssl", "broker_failover_strategy", "BROKER_USE_SSL")
#: The same of transports other than Redis.
OPTIONS_OF_OTHERS = ("broker_transport_options", "BROKER_TRANSPORT_OPTIONS", "result_backend_transport_options")


def configured_for(conf: Mapping[str, Any], addresses: Mapping[str, str]) -> dict[str, Any]:
    """Return Celery's settings with the servers of a stack in place of those that they name.

    Parameters:
        conf: As the module of the configuration has them, with the section `sosw`.
        addresses: The stack's, by the variables of `LocalStack.environment`.
    """
    found = {name: value for name, value in conf.items() if name not in OF_OTHER_SERVERS}
    for names, variable in OVERRIDES:
        stated = [name for name in names if name in found] or names[:1]
        address = os.environ.get(variable) or addresses[REDIS_VARIABLE]
        if urlsplit(str(found.get(stated[0]) or "")).scheme != urlsplit(address).scheme:
            found = {name: value for name, value in found.items() if name not in OPTIONS_OF_OTHERS}
        found.update(dict.fromkeys(stated, address))
    section = found.get("sosw") or {}
    return {**found, "sosw": _section_for(section, addresses)} if isinstance(section, Mapping) else found


def left_out(section: Mapping[str, Any]) -> list[str]:
    """Return the keys of the section `sosw` that are left out: nobody beyond this machine is told anything."""
    notices = section.get("notices")
    webhook = isinstance(notices, Mapping) and notices.get("webhook")
    return [*(["sns_config"] if section.get("sns_config") else []), *(["notices.webhook"] if webhook else [])]


def _section_for(section: Mapping[str, Any], addresses: Mapping[str, str]) -> dict[str, Any]:
    found = dict(section)
    for key in left_out(section):
        name, _, inner = key.partition(".")
        found[name] = {other: value for other, value in found[name].items() if other != inner} if inner else {}
    region = found.get("aws_region") or os.environ.get("AWS_DEFAULT_REGION") or AWS_STAND_INS["AWS_DEFAULT_REGION"]
    return {
        **found,
        "redis_url": addresses[REDIS_VARIABLE],
        "dynamodb_endpoint": addresses[DYNAMODB_VARIABLE],
        "queue_bucket": addresses[QUEUE_VARIABLE],
        "aws_region": region,
    }
