"""The consumer of a worker that loses its broker."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from celery import Celery
from celery.worker.consumer import Consumer

from sosw_celery.celery_fixes.consumer import MOST_SYSTEMS, SturdyConsumer


class LostConnection:
    """A connection as kombu's Redis transport leaves it when messages are unacknowledged and the server is gone."""

    connection_errors = channel_errors = (ConnectionError,)
    connection = None

    def collect(self, socket_timeout: float) -> None:
        """Fail as it does when it cannot give the messages back."""
        raise ConnectionError("Connection refused")

    def close(self) -> None:
        """Fail as it does when it tries again after that."""
        raise AttributeError("'NoneType' object has no attribute 'hostname'")


def with_lost_connection(kind: type[Consumer]) -> Any:
    """Return a consumer that has just lost its connection."""
    consumer: Any = kind.__new__(kind)
    consumer.app = Celery("of-this-test", set_as_current=False)
    consumer.connection = LostConnection()
    return consumer


def test_a_lost_connection_that_cannot_be_closed_is_let_go() -> None:
    """The next connection can be made."""
    consumer = with_lost_connection(SturdyConsumer)
    consumer.on_connection_error_after_connected(ConnectionError("Connection closed by server"))
    assert consumer.connection is None


def test_celerys_own_consumer_ends_the_worker() -> None:
    """Still so in the Celery that is installed; when this fails, our way around it has done its time."""
    consumer = with_lost_connection(Consumer)
    with pytest.raises(AttributeError):
        consumer.on_connection_error_after_connected(ConnectionError("Connection closed by server"))


def test_strangers_are_told_of_once_each(caplog: pytest.LogCaptureFixture) -> None:
    """A message says which system it is of; one's own, and one that says nothing, are taken without a word."""
    consumer: Any = SturdyConsumer.__new__(SturdyConsumer)
    consumer.app, consumer._known_systems = Celery("of-this-test", set_as_current=False), set()
    consumer.app.conf.sosw = {"redis_prefix": "shop", "aws_region": "eu-west-1"}
    with caplog.at_level(logging.WARNING):
        for system in (None, "shop: sosw_tasks, sosw_jobs at eu-west-1", *[f"stranger {n}" for n in range(100)] * 2):
            consumer._note_system({} if system is None else {"sosw_system": system})
    told = [record.getMessage() for record in caplog.records]
    assert "those of 'stranger 0', and this is 'shop: sosw_tasks, sosw_jobs at eu-west-1'" in told[0]
    assert len(told) == len(set(told)) == MOST_SYSTEMS  # more are somebody's game
