"""How labourers are called: with an event, as a job of its own, and with those of Celery's options that a job keeps.

What a job cannot keep is refused where it is said: dropped, it would be missed when it is too late.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from celery.canvas import Signature

from sosw_celery.text import kind_of

__all__ = ["LabourerSignature", "check_options", "event_name", "given_event", "refuse"]

#: What an event may be called where it is given by name, whatever the body calls it.
EVENT = "event"

_NOTHING_FOLLOWS = (
    "nothing can follow a labourer: its job ends when its tasks are closed, and Celery's canvas sees no such end"
)
_OWN_QUEUE = "its queue has its name"

#: Options of `apply_async` that a job cannot keep, and why.
REFUSED = {
    "link": _NOTHING_FOLLOWS,
    "link_error": _NOTHING_FOLLOWS,
    "chain": _NOTHING_FOLLOWS,
    "chord": _NOTHING_FOLLOWS,
    "expires": "a job that was accepted is carried out",
    "time_limit": "it is `duration` of sosw.labourers.{name}",
    "soft_time_limit": "it is an attribute of the labourer",
    "priority": "tasks run in the order of the labourer's queue",
    "queue": _OWN_QUEUE,
    "exchange": _OWN_QUEUE,
    "routing_key": _OWN_QUEUE,
}


def given_event(name: str, own_name: str, args: Any, kwargs: Any) -> dict[str, Any]:
    """Return the event that a labourer is called with: its one argument, or the one named `event`.

    Parameters:
        name: Of the labourer, for the error.
        own_name: What its body calls the event, which may be said instead.

    Raises:
        TypeError: It is called with something else.
    """
    if not isinstance(args or (), Sequence) or isinstance(args, (str, bytes)) or not isinstance(kwargs or {}, Mapping):
        raise TypeError(f"labourer {name!r}: expected args=(event,), got {kind_of(args)}")
    named = dict(kwargs or {})
    events = [*(args or ()), *(named.pop(key) for key in (EVENT, own_name) if key in named)]
    if len(events) == 1 and not named and isinstance(events[0], Mapping):
        return dict(events[0])
    got = [*map(kind_of, events), *(f"{key}=..." for key in named)]
    raise TypeError(f"labourer {name!r}: expected one argument, its event as a dict, got {', '.join(got) or 'none'}")


def event_name(body: Callable[..., Any]) -> str:
    """Return what a body calls its event."""
    first = next(iter(inspect.signature(body).parameters.values()), None)
    return first.name if first is not None and first.kind is first.POSITIONAL_OR_KEYWORD else EVENT


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Make sure that nothing is asked for which a labourer's job does not keep.

    Raises:
        TypeError: It is.
    """
    for option, why in REFUSED.items():
        said = options.get(option)
        if said is not None and said != [] and not (why is _OWN_QUEUE and said == name):
            refuse(name, option, why)


def refuse(name: str, what: str, why: str) -> NoReturn:
    """Say that a labourer cannot be called so.

    Raises:
        TypeError: Always.
    """
    raise TypeError(f"labourer {name!r}: expected no {what}: {why.format(name=name)}")


class LabourerSignature(Signature):
    """A labourer and its event, to be submitted later: alone, in a group, or at the end of a chain of other tasks."""

    def clone(self, args: Any = None, kwargs: Any = None, **opts: Any) -> LabourerSignature:
        """Return a copy, which refuses the same."""
        copied: Any = super().clone(args, kwargs, **opts)
        return LabourerSignature(copied, app=self.app)

    partial = clone

    def freeze(  # its parameters are Celery's
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Give the signature its ids, unless it stands in the header of a chord."""
        if chord is not None:
            self._stay_last("chord")
        return super().freeze(_id, group_id, None, root_id, parent_id, group_index)

    _freeze = freeze

    def link(self, callback: Any) -> NoReturn:
        """Refuse a callback."""
        self._stay_last("link")

    def link_error(self, errback: Any) -> NoReturn:
        """Refuse a callback."""
        self._stay_last("link_error")

    on_error = link_error

    def __or__(self, other: Any) -> NoReturn:
        """Refuse to be followed."""
        self._stay_last("chain")

    def _stay_last(self, what: str) -> NoReturn:
        refuse(str(self.task), what, _NOTHING_FOLLOWS)
