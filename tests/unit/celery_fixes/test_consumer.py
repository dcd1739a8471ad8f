"""The consumer of a worker that loses its broker."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery
from celery.worker.consumer import Consumer

from sosw_celery.celery_fixes.consumer import SturdyConsumer


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
