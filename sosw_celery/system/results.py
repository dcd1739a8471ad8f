"""The result backend on Redis, which lets go of a server that was demoted.

After a fail-over the name of the server leads to another one, but connections to the old one live on, and it answers as
the replica that it is now. Celery takes that for the end of the task's trace: with the threads pool the process counts
the task as running for ever, and takes no other one in its place. Here such an answer is what a lost connection is, so
that the result is stored once more, over a new one.
"""

from __future__ import annotations

from typing import Any

import redis
from celery.backends.redis import RedisBackend as CelerysRedisBackend
from redis.exceptions import MasterDownError, ReadOnlyError

__all__ = ["RedisBackend"]

#: What a replica answers to who would write.
REPLICA_ANSWERS = (ReadOnlyError, MasterDownError)


class _LettingGo:
    """Beside a connection class of redis-py: ends the connection to a server that answers as a replica.

    redis-py has the same for connections by Sentinel.
    """

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """Read an answer.

        Raises:
            redis.ConnectionError: The server is a replica now.
        """
        connection: Any = super()
        try:
            return connection.read_response(*args, **kwargs)
        except REPLICA_ANSWERS as answer:
            connection.disconnect()
            raise redis.ConnectionError(f"the server is a replica now: {answer}") from answer


class RedisBackend(CelerysRedisBackend):
    """Celery's own, with connections that let go."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        backend: Any = self
        cls = backend.connparams.get("connection_class", redis.Connection)
        backend.connparams["connection_class"] = type(f"LettingGo{cls.__name__}", (_LettingGo, cls), {})
