"""Makes tests independent of what whoever started them had said about signals.

`nohup` has a process ignore SIGHUP, a shell without job control has those in its background ignore SIGINT and SIGQUIT,
and some runners block signals. All of that goes on to every process that is started from there, and a test that sends
Ctrl-C to a process of its own would wait in vain.
"""

from __future__ import annotations

import signal
from types import FrameType

__all__ = ["pass_none_on", "take_defaults"]

#: By which people and supervisors have processes end.
ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
#: Python ignores them in each of its processes, and `subprocess` sees to it that others get them.
IGNORED_BY_PYTHON = frozenset({signal.SIGPIPE, signal.SIGXFSZ})


def pass_none_on() -> None:
    """Have the programs that this process starts from now on react to signals as if nothing had been said.

    What ends processes and was to be ignored still does not end this one: `nohup make test` outlives its terminal. It
    gets a handler that does nothing instead, for a handler, other than being ignored, ends with the start of a program.
    """
    _unblock()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it is ignored nobody can wait for a child
    for number in ENDING:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _do_nothing)


def take_defaults() -> None:
    """Have this process, and those that it starts, react to signals as if nothing had been said."""
    _unblock()
    for number in signal.valid_signals() - IGNORED_BY_PYTHON:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _do_nothing(number: int, frame: FrameType | None) -> None:
    pass
