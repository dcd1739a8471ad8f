"""The consumer of a worker node."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from celery import Celery

from sosw_celery.node.consumer import MOST_SYSTEMS, NodeConsumer


def test_strangers_are_told_of_once_each(caplog: pytest.LogCaptureFixture) -> None:
    """A message says which system it is of; one's own, and one that says nothing, are taken without a word."""
    consumer: Any = NodeConsumer.__new__(NodeConsumer)
    consumer.app, consumer._known_systems = Celery("of-this-test", set_as_current=False), set()
    consumer.app.conf.sosw = {"redis_prefix": "shop", "aws_region": "eu-west-1"}
    with caplog.at_level(logging.WARNING):
        for system in (None, "shop: sosw_tasks, sosw_jobs at eu-west-1", *[f"stranger {n}" for n in range(100)] * 2):
            consumer.note_headers({} if system is None else {"sosw_system": system})
    told = [record.getMessage() for record in caplog.records]
    assert "those of 'stranger 0', and this is 'shop: sosw_tasks, sosw_jobs at eu-west-1'" in told[0]
    assert len(told) == len(set(told)) == MOST_SYSTEMS  # more are somebody's game
