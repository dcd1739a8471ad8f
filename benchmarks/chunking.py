"""Measure chunking: time per task and memory above the parsed job, beside sosw where that is installed.

    python benchmarks/chunking.py [--leaves 1000000] [--sosw-leaves 100000]

Three shapes of a job with three levels, isolated at the leaf:

- lists: a thousand nodes with a list of values each;
- own nodes: every value has an inner node of its own;
- contents: every value has content of its own.

Time is that of the whole of `chunk_job`, checks included; memory is the peak that `tracemalloc` sees in another run.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
import tracemalloc
from collections.abc import Callable, Iterable
from datetime import date
from typing import Any

from sosw_celery.core.chunking import chunk_job

LEVELS = ["region", "city", "shop"]
TODAY = date(2024, 3, 1)
MEGABYTE = 1_000_000

Chunk = Callable[[dict[str, Any]], Iterable[dict[str, Any]]]


def lists(leaves: int) -> dict[str, Any]:
    """Return a job of 10 regions with 100 cities each, and lists of shops in them."""
    return job(100, lambda: [f"shop-{number}" for number in range(leaves // 1000)])


def own_nodes(leaves: int) -> dict[str, Any]:
    """Return a job of 10 regions with very many cities, and one shop in each."""
    return job(leaves // 10, lambda: ["shop"])


def contents(leaves: int) -> dict[str, Any]:
    """Return a job of 10 regions with 100 cities each, and shops with an attribute in them."""
    return job(100, lambda: {f"shop-{number}": {"floor": number} for number in range(leaves // 1000)})


def job(cities: int, shops: Callable[[], Any]) -> dict[str, Any]:
    """Return a job of 10 regions with so many cities each, isolated at the level of shops."""
    regions = {f"region-{i}": {"citys": {f"city-{j}": {"shops": shops()} for j in range(cities)}} for i in range(10)}
    return {"isolate_shops": True, "currency": "EUR", "regions": regions}


def ours(nested: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """Chunk a job with sosw-celery."""
    return chunk_job(nested, LEVELS, TODAY)


def load_sosw() -> Chunk | None:
    """Return the chunker of sosw, None where it is not installed. It needs no AWS account for this."""
    os.environ.setdefault("AWS_DEFAULT_REGION", "eu-west-1")
    try:
        from sosw.scheduler import Scheduler
    except ImportError:
        return None
    scheduler = Scheduler.__new__(Scheduler)
    scheduler.config, scheduler.chunkable_attrs = {}, LEVELS
    chunk: Chunk = scheduler.construct_job_data
    return chunk


def measure(chunk: Chunk, nested: dict[str, Any], leaves: int) -> tuple[float, float]:
    """Return the seconds that chunking takes, and the bytes that it needs at its peak above the job."""
    gc.collect()
    started = time.perf_counter()
    count = sum(1 for _ in chunk(nested))
    seconds = time.perf_counter() - started
    if count != leaves:
        raise SystemExit(f"expected {leaves} tasks, got {count}")
    tracemalloc.start()
    for _ in chunk(nested):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return seconds, peak


def report(name: str, shape: str, leaves: int, seconds: float, peak: float) -> None:
    """Print one line of the table."""
    per_task = seconds / leaves * 1_000_000
    print(f"{name:12} {shape:10} {leaves:>9,} {seconds:>8.2f} s {per_task:>7.2f} us {peak / MEGABYTE:>9.2f} MB")


def main() -> None:
    """Measure each shape, with sosw-celery and with sosw."""
    parser = argparse.ArgumentParser(description="Measure chunking.")
    parser.add_argument("--leaves", type=int, default=1_000_000, help="tasks of a job, a multiple of 1000")
    parser.add_argument("--sosw-leaves", type=int, default=100_000, help="the same for sosw, which takes longer")
    given = parser.parse_args()
    sosw = load_sosw()
    print(f"{'chunker':12} {'shape':10} {'tasks':>9} {'time':>10} {'per task':>10} {'memory':>12}")
    for shape in (lists, own_nodes, contents):
        report("sosw-celery", shape.__name__, given.leaves, *measure(ours, shape(given.leaves), given.leaves))
        if sosw:
            leaves = given.sosw_leaves
            report("sosw", shape.__name__, leaves, *measure(sosw, shape(leaves), leaves))
    if not sosw:
        print("sosw is not installed here (pip install sosw): nothing to compare with")


if __name__ == "__main__":
    main()
