"""Processes that are forked while a thread holds a lock."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from functools import cached_property as standard_property
from typing import Any

import pytest
from kombu.utils.objects import cached_property as kombu_property

from sosw_celery.celery_fixes import fork_locks
from sosw_celery.celery_fixes.fork_locks import LocksOutliveForks

HELD_UP_S = 5

HAS_LOCK = hasattr(standard_property(len), "lock")


class Slow:
    """Finds its values slowly, when told."""

    let_go = threading.Event()
    is_at_it = threading.Event()

    def __init__(self, *, waits: bool) -> None:
        self._waits = waits

    def _find(self) -> int:
        if self._waits:
            self.is_at_it.set()
            self.let_go.wait(60)
        return 7

    kombus = kombu_property(_find)
    standard = standard_property(_find)


Slow.standard.__set_name__(Slow, "standard")
READS: dict[str, Callable[[Slow], int]] = {"kombu": lambda one: one.kombus, "standard": lambda one: one.standard}


def told_by_fork(read: Callable[[], int]) -> int | None:
    """Return what a forked process reads; None if it hangs."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(HELD_UP_S)
        told = 1
        try:
            told = read()
        finally:
            os._exit(told)
    status = os.waitpid(pid, 0)[1]
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else None


@pytest.fixture(params=[name for name in READS if name == "kombu" or HAS_LOCK])
def read(request: pytest.FixtureRequest) -> Iterator[Callable[[Slow], int]]:
    """Have a thread be at the property of an instance as long as the test takes."""
    read = READS[request.param]
    Slow.let_go.clear()
    Slow.is_at_it.clear()
    thread = threading.Thread(target=read, args=(Slow(waits=True),))
    thread.start()
    try:
        assert Slow.is_at_it.wait(HELD_UP_S)
        yield read
    finally:
        Slow.let_go.set()
        thread.join()


@pytest.fixture
def _in_celery(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the class of this module stand in one of Celery's."""
    module = types.ModuleType("celery.of_this_test")
    vars(module)["Slow"] = Slow
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(fork_locks, "_searched", set())
    monkeypatch.setattr(fork_locks, "_properties", set())


@pytest.mark.usefixtures("_in_celery")
def test_a_fork_does_not_wait_for_a_thread_of_its_parent(read: Callable[[Slow], int]) -> None:
    """Whatever a thread was at when it was forked, it reads the properties of its own instances."""
    step: Any = LocksOutliveForks.__new__(LocksOutliveForks)
    step.create(None)
    assert told_by_fork(lambda: read(Slow(waits=False))) == 7


def test_without_it_the_fork_hangs(read: Callable[[Slow], int]) -> None:
    """Still so with the kombu and the Python that are installed; when this fails, the module has done its time."""
    assert told_by_fork(lambda: read(Slow(waits=False))) is None


def test_what_a_connection_to_the_broker_reads_is_among_them() -> None:
    """The properties of the real classes are found, those of the services too."""
    importlib.import_module("kombu.transport.redis")
    importlib.import_module("sosw_celery.wiring.container")
    fork_locks._search()
    found = {each.attrname for each in fork_locks._properties}
    assert {"amqp", "client", "subclient"} <= found
    assert not HAS_LOCK or {"redis", "slots"} <= found
