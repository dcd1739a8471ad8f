"""Time per task and memory of chunking, beside sosw.

    python -m benchmarks.chunking [--leaves 100000] [--many-leaves 1000000] [--rounds 5]

Three shapes of a job with three levels, isolated at the leaf:

- lists: a thousand nodes with a list of values each;
- own nodes: every value has an inner node of its own;
- contents: every value has content of its own.

Each round chunks each shape with ours and with `construct_job_data` of sosw, from the parsed job to the last payload.
Time is CPU time, checks included. Memory is the peak that `tracemalloc` sees above the job, with very many leaves.
"""

from __future__ import annotations

import gc
import os
import time
import tracemalloc
from collections.abc import Callable, Iterable
from datetime import date
from typing import Any

from benchmarks.figures import Figure, main, median, tell
from sosw_celery.core.chunking import chunk_job

FULL = {"leaves": 100_000, "many_leaves": 1_000_000, "rounds": 5}
QUICK = {"leaves": 2000, "many_leaves": 20_000, "rounds": 1}

LEVELS = ["region", "city", "shop"]
TODAY = date(2024, 3, 1)
MEGABYTE = 1_000_000

Job = dict[str, Any]
Chunk = Callable[[Job], Iterable[dict[str, Any]]]


def lists(leaves: int) -> Job:
    """Return a job of 10 regions with 100 cities each, and lists of shops in them."""
    return job(100, lambda: [f"shop-{number}" for number in range(leaves // 1000)])


def own_nodes(leaves: int) -> Job:
    """Return a job of 10 regions with very many cities, and one shop in each."""
    return job(leaves // 10, lambda: ["shop"])


def contents(leaves: int) -> Job:
    """Return a job of 10 regions with 100 cities each, and shops with an attribute in them."""
    return job(100, lambda: {f"shop-{number}": {"floor": number} for number in range(leaves // 1000)})


def job(cities: int, shops: Callable[[], Any]) -> Job:
    """Return a job of 10 regions with so many cities each, isolated at the level of shops."""
    regions = {f"region-{i}": {"citys": {f"city-{j}": {"shops": shops()} for j in range(cities)}} for i in range(10)}
    return {"isolate_shops": True, "currency": "EUR", "regions": regions}


#: Shape -> how many times faster than sosw it has to be; None has no target.
SHAPES: dict[Callable[[int], Job], float | None] = {lists: 4.0, own_nodes: 20.0, contents: None}


def measure(leaves: int, many_leaves: int, rounds: int) -> list[Figure]:
    """Return how many times faster ours is with each shape, and the memory that it needs."""
    theirs = sosw_chunker()
    figures = []
    for shape, at_least in SHAPES.items():
        nested = shape(leaves)
        both = [(seconds(theirs, nested, leaves), seconds(ours, nested, leaves)) for _ in range(rounds)]
        tell(f"chunking: {shape.__name__} done")
        sosw_us, our_us = (1e6 / leaves * median(side) for side in zip(*both, strict=True))
        figures.append(
            Figure(
                f"chunking, {shape.__name__}: sosw's time to ours",
                median(them / us for them, us in both),
                at_least=at_least,
                detail=f"{leaves:,} leaves, median of {rounds}; per task {sosw_us:.2f} us to {our_us:.2f}",
            )
        )
    for shape in SHAPES:
        peak = memory(shape(many_leaves)) / MEGABYTE
        name = f"chunking, {shape.__name__}: memory of {many_leaves:,} leaves"
        figures.append(Figure(name, peak, "MB", at_most=60, detail="above the job"))
    return figures


def ours(nested: Job) -> Iterable[dict[str, Any]]:
    """Chunk a job with sosw-celery."""
    return chunk_job(nested, LEVELS, TODAY)


def sosw_chunker() -> Chunk:
    """Return the chunker of sosw. It needs no AWS account for this."""
    os.environ.setdefault("AWS_DEFAULT_REGION", "eu-west-1")
    from sosw.scheduler import Scheduler  # type: ignore[import-untyped]

    scheduler = Scheduler.__new__(Scheduler)
    scheduler.config, scheduler.chunkable_attrs = {}, LEVELS
    chunk: Chunk = scheduler.construct_job_data
    return chunk


def seconds(chunk: Chunk, nested: Job, leaves: int) -> float:
    """Return the CPU seconds that chunking takes."""
    gc.collect()
    started = time.process_time()
    count = sum(1 for _ in chunk(nested))
    taken = time.process_time() - started
    assert count == leaves, f"expected {leaves} tasks, got {count}"
    return taken


def memory(nested: Job) -> int:
    """Return the bytes that our chunking needs at its peak above the job."""
    gc.collect()
    tracemalloc.start()
    for _ in ours(nested):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


if __name__ == "__main__":
    main(__doc__, measure, FULL, QUICK)
