"""Bodies that are coroutines, in real worker processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sosw_celery.core.model import JobState
from tests.integration.cluster import Cluster

TASKS = 12


def job(labourer_id: str, tasks: int) -> dict[str, Any]:
    """Return a job of so many tasks."""
    return {"lambda_name": labourer_id, "isolate_groups": True, "groups": {f"g{n}": {} for n in range(tasks)}}


@pytest.mark.slow
def test_coroutines_run_and_what_nobody_runs_fails(make_cluster: Callable[..., Cluster]) -> None:
    """A client outlives runs, a soft time limit meets an `await`, and a coroutine that is only returned has failed."""
    cluster = make_cluster(
        labourers={"fetch": {"max_simultaneous_invocations": 2}, "gather": {}, "forget": {"max_attempts": 1}}
    )
    cluster.environment["TEST_IMPORTS"] = "async_labourers"
    cluster.worker()
    cluster.beat()
    cluster.worker("fetch", "-c", "2")
    cluster.worker("gather,forget", "-c", "1")
    jobs = [cluster.submit(job("fetch", TASKS)), cluster.submit(job("gather", 1)), cluster.submit(job("forget", 1))]
    fetched, gathered, forgotten = map(cluster.ended, jobs)
    assert (fetched.state, fetched.completed) == (JobState.COMPLETED, TASKS)
    runs = [int(task.extra["result_runs"]) for task in cluster.closed("fetch")]
    assert max(runs) >= TASKS / 2
    assert sorted(runs) == sorted(n + 1 for most in _last_runs(runs) for n in range(most))
    assert (gathered.state, gathered.completed) == (JobState.COMPLETED, 1)
    (task,) = cluster.closed("gather")
    assert (task.extra["result_ended"], task.extra["stat_task_ids"]) == ("at its limit", 1)
    assert (forgotten.completed, forgotten.dead) == (0, 1)
    (task,) = cluster.closed("forget", status=0)
    assert task.extra["last_error"] == (
        "NotRun: the body returned a coroutine, which nobody runs: await it in an `async def`, or use it up"
    )


def _last_runs(runs: list[int]) -> list[int]:
    """Return how many runs each process had, from the numbers that its runs counted."""
    most = max(runs)
    return [most, len(runs) - most] if len(runs) > most else [most]
