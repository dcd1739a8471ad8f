"""The client of Redis: it gives up soon, and lets go of a server that was demoted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.exceptions import MasterDownError, ReadOnlyError, ResponseError
from redis.retry import Retry

__all__ = ["connect"]

T = TypeVar("T")

#: Seconds for an answer and for a connection: a lost Redis is noticed before a lease ends.
ANSWER_S, CONNECT_S = 5, 3
#: Seconds of silence after which a connection is tried before it is used.
CHECK_S = 15
#: What a replica answers to who would write.
REPLICA_ANSWERS = (ReadOnlyError, MasterDownError)


class _AnewElsewhere(Retry):
    """Has a call that meets a replica made once more, over a new connection; all other errors are the caller's.

    After a fail-over the name of the server leads to another one, but connections to the old one live on, and it
    answers as the replica that it is now. Whichever way the second call ends, the old connection is gone.
    """

    def __init__(self) -> None:
        super().__init__(NoBackoff(), 1, REPLICA_ANSWERS)

    def call_with_retry(self, do: Callable[[], T], *args: Any, **kwargs: Any) -> T:
        """Make the call, as the client asks for it."""

        def call() -> T:
            try:
                return do()
            except ResponseError as error:
                # Redis 6 gives an error of a script's command no code of its own.
                if not isinstance(error, REPLICA_ANSWERS) and "-READONLY " in str(error):
                    raise ReadOnlyError(str(error)) from error
                raise

        return super().call_with_retry(call, *args, **kwargs)


def connect(url: str) -> redis.Redis:
    """Return a client for the URL. Nothing is sent before the first call."""
    return redis.Redis.from_url(
        url,
        socket_timeout=ANSWER_S,
        socket_connect_timeout=CONNECT_S,
        health_check_interval=CHECK_S,
        retry=_AnewElsewhere(),
    )
