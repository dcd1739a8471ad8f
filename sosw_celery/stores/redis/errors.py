"""How errors of Redis become ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from redis import exceptions as redis_errors

from sosw_celery.errors import StoreError, StoreUnavailable

__all__ = ["translated"]

#: Errors that say "not now": the call may be repeated as it is.
PASSING_ERRORS = (redis_errors.ConnectionError, redis_errors.TimeoutError)
#: Connection errors by name, but no waiting cures them.
LASTING_ERRORS = (redis_errors.AuthenticationError, redis_errors.AuthorizationError)
#: The same among the server's answers; redis-py cuts a code that it knows off the text and makes it a class.
PASSING_ANSWERS = (
    redis_errors.ClusterDownError,
    redis_errors.NoScriptError,
    redis_errors.OutOfMemoryError,
    redis_errors.ReadOnlyError,
    redis_errors.TryAgainError,
)
#: Codes without a class, and those that Redis 6 puts into the text of a script's error.
PASSING_CODES = ("-OOM ", "-READONLY ", "MISCONF ", "NOREPLICAS ")


@contextlib.contextmanager
def translated(operation: str) -> Iterator[None]:
    """Turn redis-py's errors inside the block into `StoreUnavailable` (try again) or `StoreError`."""
    try:
        yield
    except redis_errors.RedisError as error:
        kind = StoreUnavailable if _passes(error) else StoreError
        raise kind("redis", operation, type(error).__name__) from error


def _passes(error: redis_errors.RedisError) -> bool:
    if isinstance(error, redis_errors.ResponseError):
        return isinstance(error, PASSING_ANSWERS) or any(code in str(error) for code in PASSING_CODES)
    return isinstance(error, PASSING_ERRORS) and not isinstance(error, LASTING_ERRORS)
