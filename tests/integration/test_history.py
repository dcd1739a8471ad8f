"""The history of tasks in real worker processes: complete, in order, and of no harm to the work."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner

from sosw_celery.cli import sosw, task
from sosw_celery.core.tasks.history import Event
from sosw_celery.core.tasks.model import JobState
from tests.integration.cluster import Cluster
from tests.nursery import Process

LABOURERS = {
    "chronicle": {"max_simultaneous_invocations": 2, "duration": 30, "retry_backoff": 0.1, "retry_jitter": False},
    "note": {"max_simultaneous_invocations": 2, "duration": 30},
}
SHORT = {"lease_s": 3, "renew_s": 0.5, "settle_s": 1, "max_attempts": 2}
WELL = ["created", "dispatched", "invoked", "opened", "written", "completed", "archived"]
FAILED = ["dispatched", "invoked", "opened", "failed"]


@pytest.fixture
def start(make_cluster: Callable[..., Cluster], table_prefix: str) -> Callable[..., Cluster]:
    """Starts a cluster that keeps a history, with the essentials, beat, and a worker of both labourers."""

    def start(**config: Any) -> Cluster:
        history = {"dynamo_db_config": {"table_name": f"{table_prefix}meta"}, "flush_s": 0.2, **config}
        cluster = make_cluster(labourers=LABOURERS, meta_handler_config=history, **SHORT)
        cluster.environment["TEST_IMPORTS"] = "history_labourers"
        cluster.worker()
        cluster.beat()
        return cluster

    return start


def job(labourer_id: str, groups: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return a job with one task for each group."""
    return {"lambda_name": labourer_id, "isolate_groups": True, "groups": groups}


def history(cluster: Cluster, task_id: str, last: str) -> list[Event]:
    """Return a task's events once the one that ends its life is there."""
    read = cluster.services.meta_table.history
    cluster.wait_for(lambda: any(event.action == last for event in read(task_id)), 20, f"{last} of {task_id}")
    return read(task_id)


def actions(cluster: Cluster, task_id: str, last: str) -> list[str]:
    """Return what happened to a task, in order."""
    return moves(history(cluster, task_id, last))


def moves(told: list[Event]) -> list[str]:
    """Return the actions without hints that nobody took up: a pass may have read the row right before its claim."""
    names = [event.action for event in told]
    followers = [*names[1:], ""]
    return [name for name, after in zip(names, followers, strict=True) if name != "dispatched" or after == "invoked"]


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_the_life_of_each_task_is_told_in_order(
    start: Callable[..., Cluster], pool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Completed at once, after a retry, or dead: each event once, by whom it was, with what the worker posted."""
    cluster = start()
    cluster.worker("chronicle", "-c", "2", "-P", pool)
    groups: dict[str, dict[str, Any]] = {f"well{number}": {"bad_attempts": 0} for number in range(5)}
    groups |= {"again": {"bad_attempts": 1}, "never": {"bad_attempts": 9}}
    summary = cluster.ended(cluster.submit(job("chronicle", groups)))
    assert (summary.completed, summary.dead) == (6, 1)
    for done in cluster.closed("chronicle"):
        again = [*WELL[:1], *FAILED, "scheduled_for_retry", "ready_for_retry", *WELL[1:]]
        assert actions(cluster, done.task_id, "archived") == (WELL if done.attempts == 1 else again)
    (dead,) = cluster.closed("chronicle", status=0)
    told = history(cluster, dead.task_id, "archived_dead")
    assert moves(told) == [
        *["created", *FAILED, "scheduled_for_retry", "ready_for_retry"],
        *[*FAILED, "archived_dead"],
    ]
    by_action = {event.action: event for event in told}
    assert by_action["created"].origin.author == "scheduler"
    assert by_action["ready_for_retry"].origin.author.startswith("sosw.sweep")
    assert by_action["opened"].origin == by_action["failed"].origin
    assert by_action["failed"].origin.author == "chronicle"
    assert by_action["failed"].origin.invocation_id == f"{dead.task_id}.2"
    assert by_action["failed"].origin.log_stream_name.startswith("chronicle-")
    assert by_action["failed"].extra["error"] == "ValueError: torn page"
    assert (by_action["opened"].extra["page"], by_action["opened"].extra["attempts"]) == (2, 2)
    monkeypatch.setattr(task, "services_at", lambda data: cluster.services)
    shown = json.loads(CliRunner().invoke(sosw, ["task", dead.task_id, "--json"]).stdout)
    assert [event["action"] for event in shown["history"]] == [event.action for event in told]


@pytest.mark.slow
def test_the_end_of_a_process_writes_what_waits(start: Callable[..., Cluster]) -> None:
    """A warm shutdown right after the last task loses no event, though none was due to be written for a minute."""
    cluster = start(flush_s=60)
    worker = cluster.worker("chronicle", "-c", "1")
    summary = cluster.ended(cluster.submit(job("chronicle", {"well": {}})))
    assert summary.completed == 1
    (done,) = cluster.closed("chronicle")
    end(worker)
    assert {"invoked", "opened", "written", "completed"} <= set(actions(cluster, done.task_id, "completed"))
    end(cluster.processes[0])
    assert sorted(actions(cluster, done.task_id, "archived")) == sorted(WELL)


@pytest.mark.slow
def test_work_goes_on_without_the_history(start: Callable[..., Cluster]) -> None:
    """Its table is gone: every task completes as ever, and the logs say what is lost."""
    cluster = start()
    cluster.services.dynamodb.delete_table(TableName=cluster.services.tables.meta)
    worker = cluster.worker("chronicle", "-c", "2")
    summary = cluster.ended(cluster.submit(job("chronicle", {f"well{number}": {} for number in range(10)})))
    assert (summary.state, summary.completed) == (JobState.COMPLETED, 10)
    assert {task.attempts for task in cluster.closed("chronicle")} == {1}
    cluster.wait_for(lambda: "events lost" in cluster.log(worker), 10, "a warning")


@pytest.mark.slow
def test_a_close_that_comes_too_late_is_told(start: Callable[..., Cluster]) -> None:
    """An attempt whose task was taken over meanwhile: its close is refused, and the history shows both."""
    cluster = start()
    frozen = cluster.worker("note", "-c", "1", "-P", "threads")
    submitted = cluster.submit(job("note", {"slow": {"seconds": 2}}))
    cluster.wait_for(lambda: len(cluster.spans()) == 1, 20, "the task to run")
    frozen.send_signal(signal.SIGSTOP)
    cluster.worker("note", "-c", "1")
    assert cluster.ended(submitted).completed == 1
    frozen.send_signal(signal.SIGCONT)
    (done,) = cluster.closed("note")
    late = history(cluster, done.task_id, "closed_late")[-1]
    assert (late.action, late.extra["attempts"], late.origin.invocation_id) == ("closed_late", 1, f"{done.task_id}.1")


def end(process: Process) -> None:
    """Shut a worker down warm and wait for its end."""
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
