"""What is slower on AWS than here: each call of DynamoDB takes some milliseconds more, and how many was measured.

A proxy in a process of its own stands between a system and the local engine and holds each answer back. While tasks
run, the same call is made again and again through the proxy and straight to the engine: the difference is what a call
really took longer, on a machine that was as busy as it was then.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks import delaying_proxy
from benchmarks.figures import Figure, median, percentile
from benchmarks.sampling import sampling
from benchmarks.usage import cpu_between, usage_of
from sosw_celery.local.servers import LOOPBACK, Server
from sosw_celery.stores.dynamodb.client import connect

__all__ = ["CallTimes", "DelayingProxy", "delay_figures", "more_per_call"]

#: Seconds between two timed calls, on average: they take one percent of a core.
CALL_S = 0.1


@dataclass
class CallTimes:
    """How long the same call took both ways, in turn, while tasks ran.

    Parameters:
        delayed_s, direct_s: Seconds of each call, through the proxy and without it.
        elapsed_s, proxy_cpu_s: How long calls were timed, and the CPU seconds that the proxy took meanwhile for all.
    """

    delayed_s: list[float] = field(default_factory=list)
    direct_s: list[float] = field(default_factory=list)
    elapsed_s: float = 0.0
    proxy_cpu_s: float = 0.0


class DelayingProxy(Server):
    """The way to a server on which each answer takes so many milliseconds more.

    Parameters:
        target: Is there before this is started.
    """

    name = "delaying-proxy"

    def __init__(self, target: Server, delay_ms: int) -> None:
        super().__init__()
        self._target = target
        self._delay_ms = delay_ms
        self._clients: list[Any] = []

    def start(self) -> None:
        """Have the proxy running, and the clients that time calls: making them takes a while."""
        super().start()
        endpoints = (self.endpoint, _endpoint(self._target.port))
        self._clients = [connect(endpoint_url=endpoint, region_name="eu-west-1") for endpoint in endpoints]

    @property
    def endpoint(self) -> str:
        """The address for clients."""
        return _endpoint(self.port)

    def command(self) -> list[str]:
        """Return the command line of the proxy."""
        numbers = (self.port, self._target.port, self._delay_ms)
        return [sys.executable, "-I", "-S", delaying_proxy.__file__, *map(str, numbers)]

    def answers(self) -> bool:
        """Return whether the proxy has said that it takes connections."""
        return delaying_proxy.READY in self._log_tail()

    @contextmanager
    def timing(self, times: CallTimes) -> Iterator[None]:
        """Add to `times` while the block runs; for a target that is an engine of DynamoDB."""
        for client in self._clients:
            _time_of_call(client)  # the first one connects

        def take_times() -> None:
            for client, seconds in zip(self._clients, (times.delayed_s, times.direct_s), strict=True):
                seconds.append(_time_of_call(client))

        before, began = usage_of({self.name: self.pid}), time.monotonic()
        take_times()  # one of each in any case
        try:
            with sampling(take_times, CALL_S):
                yield
        finally:
            times.elapsed_s += time.monotonic() - began
            times.proxy_cpu_s += sum(cpu_between(before, usage_of({self.name: self.pid})).values())


def _endpoint(port: int) -> str:
    return f"http://{LOOPBACK}:{port}"


def _time_of_call(client: Any) -> float:
    """Return the seconds of a call that needs no table."""
    began = time.perf_counter()
    client.list_tables(Limit=1)
    return time.perf_counter() - began


def more_per_call(delay_ms: int) -> str:
    """Return what stands behind the name of a figure; nothing where the engine is reached directly."""
    return f", {delay_ms} ms more per call" if delay_ms else ""


def delay_figures(delay_ms: int, times: Sequence[CallTimes]) -> list[Figure]:
    """Return the delay that was measured; nothing where there was none.

    Parameters:
        delay_ms: The delay that was asked for.
        times: Of all rounds.
    """
    if not delay_ms:
        return []
    delayed = [1000 * seconds for one in times for seconds in one.delayed_s]
    direct = [1000 * seconds for one in times for seconds in one.direct_s]
    share = sum(one.proxy_cpu_s for one in times) / sum(one.elapsed_s for one in times)
    each = ", ".join(
        f"{name} {median(took):.2f} (99th percentile {percentile(took, 0.99):.2f})"
        for name, took in (("with", delayed), ("without", direct))
    )
    return [
        Figure(
            f"a call's delay as measured, where {delay_ms} ms are asked for",
            median(delayed) - median(direct),
            "ms",
            detail=f"{len(delayed):,} calls while tasks ran, ms: {each}; the proxy took {share:.1%} of a core",
        )
    ]
