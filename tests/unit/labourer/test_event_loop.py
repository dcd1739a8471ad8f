"""Coroutines as bodies: run to their ends on a loop that stays, interrupted as other bodies are, never left unrun."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from sosw_celery import Worker, app
from sosw_celery.labourer.event_loop import run_here, runs_to_its_end, unrun


@pytest.fixture(autouse=True)
def _registry_restored() -> Iterator[None]:
    """Take away what a test has registered."""
    before = dict(app.tasks)
    yield
    for name in app.tasks.keys() - before.keys():
        del app.tasks[name]


async def double(value: int) -> int:
    """Wait a moment, as bodies do."""
    await asyncio.sleep(0)
    return 2 * value


async def the_loop() -> asyncio.AbstractEventLoop:
    """Return the loop that runs this."""
    return asyncio.get_running_loop()


# ---- where it runs


def test_a_coroutine_runs_to_its_end() -> None:
    """The answer is what it returns; what is no coroutine is the answer itself."""
    assert run_here(double(21)) == 42
    assert run_here("plain") == "plain"


def test_the_loop_of_a_thread_stays_and_is_its_own() -> None:
    """A client that was made in one run works in the next one; threads do not share it."""
    mine = run_here(the_loop())
    others: list[Any] = []
    thread = threading.Thread(target=lambda: others.append(run_here(the_loop())))
    thread.start()
    thread.join()
    assert run_here(the_loop()) is mine
    assert others[0] is not mine
    assert not mine.is_closed()


def test_the_loop_of_a_thread_ends_with_it() -> None:
    """Nothing of it stays open."""
    found: list[asyncio.AbstractEventLoop] = []
    thread = threading.Thread(target=lambda: found.append(run_here(the_loop())))
    thread.start()
    thread.join()
    assert found[0].is_closed()


def test_a_forked_process_has_a_loop_of_its_own() -> None:
    """It shares no selector with its parent, whose loop goes on working."""
    mine = run_here(the_loop())
    pid = os.fork()
    if pid == 0:  # pragma: no cover  # in the child
        with contextlib.suppress(BaseException):
            os._exit(0 if run_here(the_loop()) is not mine and run_here(double(1)) == 2 else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert run_here(asyncio.wait_for(asyncio.to_thread(lambda: 42), 60)) == 42


def test_inside_of_a_running_loop_it_is_awaited() -> None:
    """In a test that is a coroutine, and in `super().__call__`."""
    call = runs_to_its_end(double)

    async def test() -> int:
        return int(await call(4))

    assert asyncio.run(test()) == 8
    assert call(4) == 8


def test_what_it_raises_comes_out() -> None:
    """And the loop goes on."""

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("as it says")

    with pytest.raises(ValueError, match="as it says"):
        run_here(fail())
    assert run_here(double(1)) == 2


# ---- what interrupts it


@contextlib.contextmanager
def alarm(after_s: float, error: BaseException) -> Iterator[None]:
    """Have a signal handler raise, as the soft time limit does."""

    def ring(*_: Any) -> None:
        raise error

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, after_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def spin() -> None:
    """Keep the thread busy without a pause."""
    while True:
        pass


async def busily() -> None:
    """Never wait."""
    spin()


async def waiting() -> None:
    """Wait for the loop."""
    await asyncio.sleep(3600)


async def waiting_for_tasks() -> None:
    """Wait for tasks of one's own."""
    await asyncio.gather(asyncio.sleep(3600), asyncio.sleep(3600))


async def waiting_beside_a_busy_callback() -> None:
    """Wait while the loop is busy with something else."""
    asyncio.get_running_loop().call_soon(spin)
    await asyncio.sleep(3600)


@pytest.mark.parametrize("wait", [busily, waiting, waiting_for_tasks, waiting_beside_a_busy_callback])
def test_a_soft_time_limit_is_raised_where_the_body_stands(wait: Any) -> None:
    """It can be caught there, cleaned up after with further awaits, and ends the body."""
    seen: list[str] = []

    async def body() -> None:
        try:
            await wait()
        except SoftTimeLimitExceeded:
            await asyncio.sleep(0)
            seen.append("caught")
            raise
        finally:
            await asyncio.sleep(0)
            seen.append("cleaned up")

    with alarm(0.1, SoftTimeLimitExceeded(1)), pytest.raises(SoftTimeLimitExceeded):
        run_here(body())
    assert seen == ["caught", "cleaned up"]
    assert run_here(double(1)) == 2


def test_a_body_may_go_on_after_its_soft_time_limit() -> None:
    """What it caught is over: time limits of its own still work."""

    async def body() -> str:
        try:
            await asyncio.sleep(3600)
        except SoftTimeLimitExceeded:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.sleep(3600), 0.01)
            return "ended early"
        return "not interrupted"

    with alarm(0.1, SoftTimeLimitExceeded(1)):
        assert run_here(body()) == "ended early"


def test_a_process_that_is_to_end_ends_the_body_in_order() -> None:
    """As in a body that is no coroutine: `finally` runs, and the exit comes out."""
    seen: list[str] = []

    async def body() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            seen.append("cleaned up")

    with alarm(0.1, SystemExit(3)), pytest.raises(SystemExit):
        run_here(body())
    assert seen == ["cleaned up"]


def test_a_cancellation_of_its_own_stays_one() -> None:
    """A body that cancels itself gets no other exception for it."""

    async def body() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError):
        run_here(body())


def test_errors_of_callbacks_are_told_as_asyncio_does(caplog: pytest.LogCaptureFixture) -> None:
    """Only a time limit is taken out of them."""

    def fail() -> None:
        raise ValueError("in a callback")

    async def body() -> None:
        asyncio.get_running_loop().call_soon(fail)
        await asyncio.sleep(0.01)

    run_here(body())
    assert "in a callback" in caplog.text


# ---- nothing is left unrun


async def numbers() -> AsyncIterator[int]:
    """Yield one."""
    yield 1


@pytest.mark.parametrize(
    ("lazy", "kind"),
    [
        (lambda: double(1), "coroutine"),
        (lambda: (number for number in [1]), "generator"),
        (numbers, "async_generator"),
        (lambda: map(str, [1]), "map"),
        (lambda: filter(None, [1]), "filter"),
    ],
)
def test_a_result_that_nobody_runs_is_told(lazy: Any, kind: str) -> None:
    """And let go of without a warning."""
    assert unrun(lazy()) == (
        f"NotRun: the body returned a {kind}, which nobody runs: await it in an `async def`, or use it up"
    )


@pytest.mark.parametrize("result", [None, {"a": 1}, [1], "text", iter([1]), range(3), object()])
def test_other_results_are_no_matter_of_its(result: Any) -> None:
    """They are there already."""
    assert unrun(result) is None


def test_a_call_that_is_not_awaited_is_an_error() -> None:
    """What stands behind it was not done, so the body has not done its work."""

    async def body() -> None:
        runs_to_its_end(double)(1)

    with pytest.raises(RuntimeError, match=r"double was called and never awaited: write `await` in front of the call"):
        run_here(body())


# ---- labourers


def wrapped(call: Any) -> Any:
    """Decorate as users do."""

    @functools.wraps(call)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return call(*args, **kwargs)

    return wrapper


def test_every_form_of_a_labourer_may_be_a_coroutine() -> None:
    """A function, a bound one, one behind a decorator, a class with `run`, and one with `__call__`."""

    @app.task(base=Worker, name="async-function")
    async def function(event: dict[str, Any]) -> int:
        return await double(event["n"])

    @app.task(base=Worker, name="async-bound", bind=True)
    async def bound(self: Any, event: dict[str, Any]) -> int:
        self.stats["calls"] += 1
        return await double(event["n"]) + int(self.stats["calls"])

    @app.task(base=Worker, name="async-decorated")
    @wrapped
    async def decorated(event: dict[str, Any]) -> int:
        return await double(event["n"])

    class WithRun(Worker):
        """With `run`."""

        name = "async-with-run"

        async def run(self, event: Any = None, *args: Any, **kwargs: Any) -> int:
            """Double."""
            return await double(event["n"])

    class WithCall(Worker):
        """With `__call__`."""

        name = "async-with-call"

        async def __call__(self, event: dict[str, Any]) -> int:
            """Double."""
            self.result["n"] = event["n"]
            return await double(event["n"])

    assert function({"n": 2}) == 4
    assert bound({"n": 2}) == 5
    assert decorated({"n": 2}) == 4
    assert WithRun()({"n": 2}) == 4
    with_call: Any = WithCall()
    assert with_call({"n": 2}) == 4
    assert with_call.result == {"n": 2}


class First(Worker):
    """A base whose body is a coroutine."""

    abstract = True

    async def __call__(self, event: dict[str, Any]) -> str:
        """Count, and end as the docs say."""
        await asyncio.sleep(0)
        self.stats["first"] += 1
        await super().__call__(event)
        return "first"


class Awaiting(First):
    """Goes on with its base as a coroutine does."""

    async def __call__(self, event: dict[str, Any]) -> str:
        """Count, and let the base count."""
        self.stats["own"] += 1
        return f"own, {await super().__call__(event)}"


class Returning(First):
    """Returns what its base gives, without awaiting it."""

    async def __call__(self, event: dict[str, Any]) -> str:
        """Count, and let the base count."""
        self.stats["own"] += 1
        return super().__call__(event)  # type: ignore[return-value]  # the coroutine of it


class Plain(First):
    """Is no coroutine itself."""

    def __call__(self, event: dict[str, Any]) -> str:  # type: ignore[override]
        """Count, and let the base count."""
        self.stats["own"] += 1
        return f"own, {super().__call__(event)}"


class Forgetful(First):
    """Forgets to await its base."""

    async def __call__(self, event: dict[str, Any]) -> None:  # type: ignore[override]
        """Count, and mean the base to."""
        self.stats["own"] += 1
        cast(Any, super().__call__)(event)


class AsInSosw(Worker):
    """Ends as sosw's workers do, without await."""

    async def __call__(self, event: dict[str, Any]) -> None:
        """Count, and keep the result for the next run."""
        self.stats["own"] += 1
        super().__call__(event, reset_result=False)


@pytest.mark.parametrize(
    ("labourer", "returned", "stats"),
    [
        (Awaiting, "own, first", {"own": 1, "first": 1, "processor_calls": 1}),
        (Returning, "first", {"own": 1, "first": 1, "processor_calls": 1}),
        (Plain, "own, first", {"own": 1, "first": 1, "processor_calls": 1}),
        (AsInSosw, None, {"own": 1, "processor_calls": 1}),
    ],
)
def test_a_chain_of_super_calls_is_run_to_its_end(labourer: Any, returned: Any, stats: dict[str, int]) -> None:
    """Whichever links of it are coroutines, each runs once."""
    worker = labourer()
    assert worker({}) == returned
    assert worker.stats == stats


def test_a_forgotten_await_is_an_error() -> None:
    """The base's part was not done, so the attempt may not complete."""
    worker: Any = Forgetful()
    with pytest.raises(RuntimeError, match=r"First\.__call__ was called and never awaited"):
        worker({})


def test_a_test_that_is_a_coroutine_awaits_the_labourer() -> None:
    """As it would any other."""

    async def test() -> tuple[str, dict[str, Any]]:
        worker = Awaiting()
        return await worker({}), worker.stats

    assert asyncio.run(test()) == ("own, first", {"own": 1, "first": 1, "processor_calls": 1})


def test_a_plain_labourer_is_called_in_a_coroutine_as_anywhere() -> None:
    """It gives its result at once."""

    @app.task(base=Worker, name="plain-in-loop")
    def plain(event: dict[str, Any]) -> int:
        return len(event)

    async def test() -> Any:
        return plain({"a": 1})

    assert asyncio.run(test()) == 1


def generator(self: Any, event: Any = None) -> Iterator[Any]:
    """Yield the event."""
    yield event


async def async_generator(self: Any, event: Any = None) -> AsyncIterator[Any]:
    """Yield the event."""
    yield event


async def coroutine(self: Any, *args: Any) -> None:
    """Do nothing."""


@pytest.mark.parametrize("body", [generator, async_generator])
@pytest.mark.parametrize("method", ["__call__", "run"])
def test_a_body_that_yields_is_refused(method: str, body: Any) -> None:
    """Where the class is written: nobody would run it. It is not registered."""
    with pytest.raises(TypeError, match=f"labourer 'yielding': expected {method} without `yield`"):
        type("Yielding", (Worker,), {"name": "yielding", method: body})
    assert "yielding" not in app.tasks


def test_a_function_that_yields_is_refused() -> None:
    """At its own line."""
    with pytest.raises(TypeError, match="labourer 'yielding': expected run without `yield`"):

        @app.task(base=Worker, name="yielding")
        def yielding(event: dict[str, Any]) -> Iterator[Any]:
            yield event

    assert "yielding" not in app.tasks


@pytest.mark.parametrize("hook", ["before_start", "on_success", "on_failure", "on_retry", "after_return"])
def test_a_hook_that_nobody_would_await_is_refused(hook: str) -> None:
    """Celery calls it as a function."""
    members = {"name": "hooked", "__call__": lambda self, event: None, hook: coroutine}
    with pytest.raises(TypeError, match=f"labourer 'hooked': expected {hook} without `async`"):
        type("Hooked", (Worker,), members)
