"""What bodies may be, and cannot do, in real worker processes."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

from sosw_celery.core.tasks.model import JobState
from tests.integration.cluster import Cluster
from tests.nursery import ROOT

TASKS = 12
PAGE = ROOT / "docs" / "how-to" / "what-bodies-cannot-do.md"


def job(labourer_id: str, tasks: int) -> dict[str, Any]:
    """Return a job of so many tasks."""
    return {"lambda_name": labourer_id, "isolate_groups": True, "groups": {f"g{n}": {} for n in range(tasks)}}


@pytest.mark.slow
def test_coroutines_run_and_what_nobody_runs_fails(make_cluster: Callable[..., Cluster]) -> None:
    """A client outlives runs, a soft time limit meets an `await`, and a coroutine that is only returned has failed.

    What a body cannot do says so in the words that the page of these things has.
    """
    cluster = make_cluster(
        labourers={
            "fetch": {"max_simultaneous_invocations": 2},
            "gather": {},
            "forget": {"max_attempts": 1},
            "try_out": {},
        }
    )
    cluster.environment["TEST_IMPORTS"] = "body_labourers"
    cluster.worker()
    cluster.beat()
    cluster.worker("fetch", "-c", "2")
    cluster.worker("gather,forget,try_out", "-c", "1")
    jobs = {"fetch": TASKS, "gather": 1, "forget": 1, "try_out": 1}
    submitted = [cluster.submit(job(name, tasks)) for name, tasks in jobs.items()]
    fetched, gathered, forgotten, _ = map(cluster.ended, submitted)
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
    (task,) = cluster.closed("try_out")
    said = {name.removeprefix("result_"): text for name, text in task.extra.items() if name.startswith("result_")}
    assert said.keys() == {"process", "fileno", "replace", "get"}
    page = PAGE.read_text()
    assert [text for text in said.values() if text not in page] == []


def _last_runs(runs: list[int]) -> list[int]:
    """Return how many runs each process had, from the numbers that its runs counted."""
    most = max(runs)
    return [most, len(runs) - most] if len(runs) > most else [most]


@pytest.mark.slow
def test_bodies_send_messages_whatever_a_thread_held_when_their_process_was_forked(
    make_cluster: Callable[..., Cluster],
) -> None:
    """A node's heartbeat connects to the broker at any time; its processes connect all the same, and it can end."""
    cluster = make_cluster(labourers={"tell": {"max_simultaneous_invocations": 2}})
    cluster.worker()
    cluster.beat()
    node = cluster.worker("tell", "-c", "2", TEST_IMPORTS="forked_labourers")
    summary = cluster.ended(cluster.submit(job("tell", TASKS)))
    assert (summary.state, summary.completed) == (JobState.COMPLETED, TASKS)
    node.send_signal(signal.SIGTERM)
    assert node.wait(30) == 0
