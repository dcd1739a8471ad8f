"""What each of Celery's task options means for a labourer: what it means in Celery, or nothing, and then it is refused.

Options are attributes of a class, arguments of `@app.task`, and entries of `task_annotations`. What Celery does by its
messages (retries, limits of rate, places in queues) a labourer has from its entry in the configuration, where it holds
in the whole cluster. Such an option is refused when the labourer is registered, with the key that takes its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from celery import Celery, Task

from sosw_celery.errors import ConfigError

if TYPE_CHECKING:
    AnyTask = Task[..., Any]
else:
    AnyTask = Task

__all__ = ["OURS", "REFUSED", "SAME", "check_task_options"]

#: Work as in Celery.
SAME = (
    "Request",
    "Strategy",
    "backend",
    "base",
    "bind",
    "name",
    "pydantic",
    "pydantic_context",
    "pydantic_dump_kwargs",
    "pydantic_strict",
    "resultrepr_maxsize",
    "send_events",
    "soft_time_limit",
    "store_eager_result",
    "store_errors_even_if_ignored",
    "throws",
    "time_limit",
    "track_started",
    "trail",
)


class Ours(NamedTuple):
    """An option that a labourer has one value of.

    Parameters:
        value: The one, by which the promises are kept.
        why: What would break with another one.
    """

    value: Any
    why: str


_ONCE = "a message that comes again is refused: the task is tried again by its row"

OURS = {
    "acks_late": Ours(True, "a message is acknowledged when its task is closed"),
    "acks_on_failure": Ours(True, _ONCE),
    "acks_on_failure_or_timeout": Ours(True, _ONCE),
    "acks_on_timeout": Ours(True, _ONCE),
    "ignore_result": Ours(True, "what a body returns stands on its row"),
    "reject_on_worker_lost": Ours(False, _ONCE),
    "retry_on_worker_lost": Ours(False, _ONCE),
    "typing": Ours(True, "a labourer takes its event and nothing else"),
}

_EVERY_EXCEPTION = "every exception is tried again, as sosw.labourers.{name}.max_attempts and retry_backoff say"
_OWN_QUEUE = "its queue has its name"

#: Options that a labourer has not, and what is there in their place.
REFUSED = {
    "autoretry_for": _EVERY_EXCEPTION,
    "compression": "that of the app: task_compression",
    "default_retry_delay": "sosw.labourers.{name}.retry_backoff",
    "delivery_mode": _OWN_QUEUE,
    "dont_autoretry_for": _EVERY_EXCEPTION,
    "exchange": _OWN_QUEUE,
    "exchange_type": _OWN_QUEUE,
    "expires": "a job that was accepted is carried out",
    "immediate": _OWN_QUEUE,
    "mandatory": _OWN_QUEUE,
    "max_retries": "sosw.labourers.{name}.max_attempts, which counts the first attempt as well",
    "priority": "tasks run in the order of the labourer's queue",
    "queue": _OWN_QUEUE,
    "rate_limit": "sosw.labourers.{name}.rate_limit, which holds in the whole cluster",
    "retry_backoff": "sosw.labourers.{name}.retry_backoff",
    "retry_backoff_max": "sosw.labourers.{name}.retry_backoff_max",
    "retry_jitter": "sosw.labourers.{name}.retry_jitter",
    "retry_kwargs": _EVERY_EXCEPTION,
    "routing_key": _OWN_QUEUE,
    "serializer": "messages are JSON, whatever task_serializer says",
}


def check_task_options(labourer: type[AnyTask], base: type[AnyTask], app: Celery | None = None) -> None:
    """Make sure that a labourer states no option that has no effect.

    Parameters:
        labourer: Bound to the app, where that is given: with its annotations.
        base: Of all labourers; what it and its own bases state counts for all of them.

    Raises:
        ConfigError: Names the first one, and what is there in its place.
    """
    name = str(labourer.name)
    configured = {} if app is None else {option: app.conf[setting] for option, setting in labourer.from_config}
    stated = _stated(labourer, base)
    for option, ours in OURS.items():
        if option in stated and stated[option] not in (None, ours.value):
            raise ConfigError(f"{option} of labourer {name!r}", stated[option], f"{ours.value}: {ours.why}")
    for option, instead in REFUSED.items():
        value = stated.get(option)
        if option in stated and not (option in configured and value in (None, configured[option])):
            expected = f"no such option: {instead.format(name=name)}"
            raise ConfigError(f"{option} of labourer {name!r}", value, expected)


def _stated(labourer: type[AnyTask], base: type[AnyTask]) -> Mapping[str, Any]:
    """Return what the class and its own bases state, the most specific first."""
    members: dict[str, Any] = {}
    for cls in _own_classes(labourer, base):
        members = {**vars(cls), **members}
    return members


def _own_classes(labourer: type[AnyTask], base: type[AnyTask]) -> Iterator[type]:
    return (cls for cls in labourer.__mro__ if cls not in base.__mro__)
