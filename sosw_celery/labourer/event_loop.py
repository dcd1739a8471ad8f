"""Runs bodies that are coroutines: on one event loop per thread, which stays, so that clients outlive a run.

One rule for workers, for `super().__call__` and for direct calls: a coroutine that is called where no event loop runs
is run to its end, and the answer is what it returns; inside of a running loop it is handed out, to be awaited there.

What interrupts other bodies interrupts a coroutine as well. The exception of a signal handler (`SoftTimeLimitExceeded`,
`SystemExit`) meets the event loop itself while the coroutine waits; it is then raised in the coroutine, at the `await`
where it stands, so that its `except` and `finally` blocks run.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from contextvars import ContextVar
from types import CoroutineType, GeneratorType
from typing import Any, TypeGuard

from celery.exceptions import SoftTimeLimitExceeded

__all__ = [
    "Given",
    "is_coroutine",
    "is_coroutine_function",
    "is_running",
    "run_here",
    "runs_to_its_end",
    "unrun",
    "yields",
]

AnyCoroutine = Coroutine[Any, Any, Any]

#: What begins its work when somebody asks it for more.
LAZY = (Awaitable, Generator, AsyncGenerator, map, filter)

#: Marks a function that `runs_to_its_end` made.
MARK = "_sosw_runs_to_its_end"

#: Coroutines that were handed out to the body that is run in this context.
_handed_out: ContextVar[list[AnyCoroutine]] = ContextVar("sosw_handed_out")


class Given:
    """A value that may be awaited and need not be: the end of `super().__call__(event)` in a coroutine."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __await__(self) -> Generator[Any, None, Any]:
        """Give the value at once."""
        yield from ()
        return self._value


def is_running() -> bool:
    """Return whether an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def is_coroutine(value: object) -> bool:
    """Return whether a value is a coroutine: its type is asked, since a value may raise when it is."""
    return issubclass(type(value), CoroutineType)


def is_coroutine_function(call: Callable[..., Any]) -> bool:
    """Return whether a call begins a coroutine, also behind decorators that tell what they wrap."""
    return inspect.iscoroutinefunction(inspect.unwrap(call))


def yields(call: Callable[..., Any]) -> bool:
    """Return whether a call does nothing but make a generator, also behind decorators that tell what they wrap."""
    inner = inspect.unwrap(call)
    return inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner)


def runs_to_its_end(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return the coroutine function as one that may be called anywhere, as `run_here` says."""
    if hasattr(call, MARK):
        return call

    @functools.wraps(call)
    def run(*args: Any, **kwargs: Any) -> Any:
        return run_here(call(*args, **kwargs))

    setattr(run, MARK, True)
    return run


def run_here(answer: Any) -> Any:
    """Return what a coroutine returns, once it has; inside of a running loop the coroutine itself, to be awaited there.

    What is no coroutine is returned as it is.

    Raises:
        RuntimeError: A coroutine that was handed out in it was never awaited, so what it is there for was not done.
    """
    if not is_coroutine(answer):
        return answer
    if is_running():
        handed_out = _handed_out.get(None)
        if handed_out is not None:
            handed_out.append(answer)
        return answer
    return _loop_of_this_thread().run(answer)


def unrun(returned: object) -> str | None:
    """Return why a body with this result has not done all of its work, and let go of the result; None if it has."""
    if not issubclass(type(returned), LAZY):
        return None
    if isinstance(returned, (Coroutine, Generator)):
        returned.close()
    kind = type(returned).__name__
    return f"NotRun: the body returned a {kind}, which nobody runs: await it in an `async def`, or use it up"


class _Loop:
    """An event loop, and the body that it runs."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._body: _Body | None = None
        this = weakref.ref(self)
        self._loop.set_exception_handler(lambda loop, context: _note_error(this(), loop, context))
        weakref.finalize(self, _close, self._loop, self.pid)

    def run(self, coroutine: AnyCoroutine) -> Any:
        """Run the coroutine to its end, through all that interrupts it, and return what it returns."""
        self._body = body = _Body(coroutine)
        body.task = task = self._loop.create_task(_whole(body))
        try:
            while True:
                try:
                    return self._loop.run_until_complete(task)
                except BaseException as error:
                    if task.done():
                        raise
                    body.interrupt(error)  # it met the loop: the coroutine waits and knows nothing of it yet
        finally:
            self._body = None

    def interrupt(self, error: BaseException) -> bool:
        """Raise the error in the body; return whether there is one."""
        if self._body is not None:
            self._body.interrupt(error)
        return self._body is not None


class _Body:
    """Awaits a coroutine, into which an exception can be raised where it waits."""

    task: asyncio.Task[Any]

    def __init__(self, coroutine: AnyCoroutine) -> None:
        self._coroutine = coroutine
        self._interruption: BaseException | None = None

    def interrupt(self, error: BaseException) -> None:
        """Have the coroutine get the error instead of what it waits for, which is cancelled."""
        self._interruption = error
        self.task.cancel()

    def __await__(self) -> Generator[Any, Any, Any]:
        """Do as the coroutine itself, but for a cancellation that stands for another exception."""
        inner = self._coroutine.__await__()
        go_on: Callable[[], Any] = functools.partial(next, inner)
        while True:
            try:
                awaited = go_on()
            except StopIteration as end:
                return end.value
            try:
                yield awaited
            except BaseException as error:  # noqa: BLE001  # it is the coroutine's to handle
                go_on = functools.partial(inner.throw, self._meant_by(error))
            else:
                go_on = functools.partial(next, inner)

    def _meant_by(self, error: BaseException) -> BaseException:
        if self._interruption is None or not isinstance(error, asyncio.CancelledError):
            return error
        meant, self._interruption = self._interruption, None
        if hasattr(self.task, "uncancel"):  # from Python 3.11: `asyncio.timeout` asks whether it is being cancelled
            self.task.uncancel()
        return meant


async def _whole(body: _Body) -> Any:
    """Return what the body gives in the end, once all that was handed out to it has been begun."""
    handed_out: list[AnyCoroutine] = []
    _handed_out.set(handed_out)
    returned = await body
    # return super().__call__(event)
    while issubclass(type(returned), (Awaitable, GeneratorType)) and inspect.isawaitable(returned):
        returned = await returned
    for coroutine in filter(_is_new, handed_out):
        coroutine.close()
        raise RuntimeError(f"{coroutine.__qualname__} was called and never awaited: write `await` in front of the call")
    return returned


def _is_new(coroutine: AnyCoroutine) -> TypeGuard[Any]:
    return inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED


def _note_error(here: _Loop | None, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Take a time limit out of what was called back when its signal came; else do as asyncio does."""
    error = context.get("exception")
    if not (isinstance(error, SoftTimeLimitExceeded) and "handle" in context and here and here.interrupt(error)):
        loop.default_exception_handler(context)


def _close(loop: asyncio.AbstractEventLoop, pid: int) -> None:
    if pid == os.getpid():  # a forked process shares the selector with the one that it was made in
        loop.close()


class _Here(threading.local):
    loop: _Loop | None = None
    #: Of the processes that this one was forked from: whatever happens to one here would happen to it there.
    inherited: tuple[_Loop, ...] = ()


_here = _Here()


def _loop_of_this_thread() -> _Loop:
    if _here.loop is None or _here.loop.pid != os.getpid():
        if _here.loop is not None:
            _here.inherited += (_here.loop,)
        _here.loop = _Loop()
    return _here.loop
