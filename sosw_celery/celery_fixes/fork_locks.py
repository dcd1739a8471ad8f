"""Gives each process that a worker forks new locks for the cached properties of Celery, kombu and this package.

kombu's `cached_property` takes a lock at each read, and that of the standard library up to Python 3.11 takes one while
it finds the value; there is one lock for all instances of a class. A thread of the main process that holds one while
the pool forks (the heartbeat connects to the broker) is not there in the child: the lock stays taken, and the child
hangs at its own first connection for ever, and with it the shutdown that waits for it. What such a lock guards is one
entry of an instance's `__dict__`, which is there or is not, so that a new lock is as good.

Seen with celery 5.7 and kombu 5.7, no ticket known. Delete it when kombu's `cached_property` takes no lock of its
class any more and Python 3.11 is gone.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from typing import Any

from celery import bootsteps

__all__ = ["LocksOutliveForks"]

PACKAGES = frozenset({"celery", "kombu", "sosw_celery"})


class LocksOutliveForks(bootsteps.StartStopStep):
    """Worker bootstep: no process of the pool waits for a lock that a thread held while it was forked."""

    def create(self, worker: Any) -> Any:
        """See to it before the pool forks, once per process; return the step itself as what is started and stopped."""
        _see_to_forks()
        return self

    def start(self, worker: Any) -> None:
        """Do nothing: what `create` did holds for all forks to come."""

    def stop(self, worker: Any) -> None:
        """Do nothing, as in `start`."""

    def terminate(self, worker: Any) -> None:
        """Do nothing, as in `start`."""


#: Those whose lock is renewed, and the modules that were searched for them.
_properties: set[Any] = set()
_searched: set[str] = set()


@functools.cache
def _see_to_forks() -> None:
    # Searched in the parent, which has all modules long since: a child would pay for it at each fork.
    os.register_at_fork(before=_search, after_in_child=_renew)


def _search() -> None:
    for name, module in list(sys.modules.items()):
        if name not in _searched and name.partition(".")[0] in PACKAGES:
            _searched.add(name)
            for cls in [each for each in vars(module).values() if isinstance(each, type)]:
                _properties.update(
                    each
                    for each in list(vars(cls).values())
                    if isinstance(each, functools.cached_property) and hasattr(each, "lock")
                )


def _renew() -> None:
    for each in _properties:
        each.lock = threading.RLock()
