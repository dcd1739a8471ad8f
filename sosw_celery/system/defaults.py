"""Celery's settings of our own app: what its configuration does not state.

They keep the promises; a configuration may state others, at its own risk where a comment says so. On an app of somebody
else's nothing is set: there our tasks and workers bring what they need with them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from sosw_celery.wiring.broker import own_keys

__all__ = ["DEFAULTS", "unstated"]

DEFAULTS: dict[str, Any] = {
    # A task is acknowledged after it was closed; a hint that comes twice is refused by the claim.
    "task_acks_late": True,
    # Hints that a busy worker keeps to itself would idle their slots.
    "worker_prefetch_multiplier": 1,
    "worker_disable_prefetch": True,
    # A lost child's task is dispatched again as its next attempt; requeuing the message would loop on a poisoned one.
    "task_reject_on_worker_lost": False,
    "task_serializer": "json",
    "result_serializer": "json",
    "accept_content": ["json"],
    "task_ignore_result": True,
    # No message ends a worker.
    "worker_consumer": "sosw_celery.node.consumer:NodeConsumer",
    "broker_connection_retry_on_startup": True,
    # No answer of the broker does either: a Redis that was demoted answers so.
    "broker_channel_error_retry": True,
    "result_expires": 86_400,
    "beat_scheduler": "sosw_celery.system.beat:SoswBeat",
}


#: Transport options -> the setting that says where they count, and the variable that Celery puts before it.
ADDRESSES = {
    "broker_transport_options": ("broker_url", "CELERY_BROKER_URL"),
    "result_backend_transport_options": ("result_backend", "CELERY_RESULT_BACKEND"),
}


def unstated(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return our settings for what a configuration does not state: Celery lays added defaults over it."""
    return {**{name: value for name, value in DEFAULTS.items() if name not in stated}, **_keys_of_its_own(stated)}


def _keys_of_its_own(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that keep messages and results of a system with a `redis_prefix` of its own from others."""
    section = stated.get("sosw")
    prefix = section.get("redis_prefix") if isinstance(section, Mapping) else None
    if not isinstance(prefix, str):
        return {}
    found = {
        name: own_keys(prefix, os.environ.get(variable) or stated.get(address), stated.get(name))
        for name, (address, variable) in ADDRESSES.items()
    }
    return {name: options for name, options in found.items() if options is not None}
