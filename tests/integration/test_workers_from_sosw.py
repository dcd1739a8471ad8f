"""Workers in the manner of sosw in real worker processes, on real servers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sosw_celery.core.tasks.model import JobState, Task
from sosw_celery.sosw_compat.dynamo_client import DynamoDbClient
from tests.integration.cluster import ROOT, Cluster

DOCS = ROOT / "docs" / "workers-from-sosw.md"
#: Short leases, so that a lost attempt is noticed within the test.
SHORT = {"lease_s": 3, "renew_s": 0.5, "settle_s": 1, "max_attempts": 3, "retry_backoff": 0.1}
#: An address at which nothing answers: port 9 of this machine.
NOWHERE = "http://127.0.0.1:9"

MakeCluster = Callable[..., Cluster]


def job(labourer_id: str, groups: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return a job with one task for each group."""
    return {"lambda_name": labourer_id, "isolate_groups": True, "groups": groups}


def labourer(worker: str, **settings: Any) -> dict[str, Any]:
    """Return the entry of a labourer whose class is one of `sosw_workers`."""
    return {"worker": f"sosw_workers:{worker}", "duration": 30, **settings}


def run_job(cluster: Cluster, labourer_id: str, groups: dict[str, dict[str, Any]], status: int = 1) -> list[Task]:
    """Have a job done and return the closed tasks of its labourer."""
    cluster.ended(cluster.submit(job(labourer_id, groups)), 90)
    return cluster.closed(labourer_id, status)


def create_table(cluster: Cluster, name: str, hash_key: tuple[str, str], range_key: tuple[str, str]) -> None:
    """Create a table of a user's in the engine of the test."""
    cluster.services.dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": kind} for key, kind in (hash_key, range_key)],  # type: ignore[typeddict-item]
        KeySchema=[
            {"AttributeName": hash_key[0], "KeyType": "HASH"},
            {"AttributeName": range_key[0], "KeyType": "RANGE"},
        ],
    )


@contextlib.contextmanager
def table_client(cluster: Cluster, table_name: str, **row_mapper: str) -> Iterator[DynamoDbClient]:
    """A client of a table in the engine of the test."""
    endpoint = cluster.settings.dynamodb_endpoint
    client = DynamoDbClient({"table_name": table_name, "row_mapper": row_mapper, "endpoint_url": endpoint})
    yield client
    client.dynamo_client.close()


@pytest.mark.slow
def test_the_example_of_the_page_runs_as_a_labourer(make_cluster: MakeCluster, tmp_path: Path) -> None:
    """The class that the docs show is made a labourer by one line of configuration, and its rows reach its table."""
    example = re.search(r"```python\n(import logging\n.*?)```", DOCS.read_text(), re.DOTALL)
    assert example is not None
    (tmp_path / "my_module.py").write_text(example[1])
    entry = {"worker": "my_module:Processor", "max_simultaneous_invocations": 10, "duration": 300}
    cluster = make_cluster(labourers={"some_function": entry}, **SHORT)
    cluster.environment["PYTHONPATH"] += f"{os.pathsep}{tmp_path}"
    create_table(cluster, "autotest_dynamo_db", ("hash_col", "S"), ("range_col", "N"))
    cluster.worker()
    cluster.beat()
    cluster.worker("some_function", "-c", "2")
    rows = [{"hash_col": "cat", "range_col": number} for number in range(4)]
    groups = {f"g{row['range_col']}": {"row": row} for row in rows}
    tasks = run_job(cluster, "some_function", groups)
    assert [task.extra["stat_dynamo_put_queries"] for task in tasks] == [1] * 4
    with table_client(cluster, "autotest_dynamo_db", hash_col="S", range_col="N") as table:
        assert table.get_by_query({"hash_col": "cat"}) == rows


@pytest.mark.slow
def test_stats_and_results_belong_to_a_run_and_what_is_to_last_lasts(make_cluster: MakeCluster) -> None:
    """Each row has its own run's counts, its clients' and its threads' included; a result that is kept goes on to the
    next run of the process, one that is reset does not; `custom_config` tells two labourers of one class apart."""
    cluster = make_cluster(
        labourers={
            "keeping": labourer("Keeping", custom_config={"colour": "blue", "sizes": [3]}),
            "other": labourer("Keeping"),
        },
        **SHORT,
    )
    cluster.worker()
    cluster.beat()
    cluster.worker("keeping,other", "-c", "1")
    for number, keep in ((1, True), (2, True), (3, False), (4, False)):
        run_job(cluster, "keeping", {"g": {"n": number, "keep": keep}})
    rows = cluster.closed("keeping")
    assert [row.extra["result_seen"] for row in rows] == [[1], [1, 2], [1, 2, 3], [4]]
    assert [row.extra["stat_asked"] for row in rows] == [1, 2, 3, 4]
    assert [row.extra["stat_runs"] for row in rows] == [1, 2, 3, 4]
    assert [row.extra["stat_helped"] for row in rows] == [1] * 4
    assert all(row.extra["result_own_process"] for row in rows)
    assert rows[0].extra["result_config"] == ["blue", [3]]
    (other,) = run_job(cluster, "other", {"g": {"n": 5}})
    assert (other.extra["result_config"], other.extra["result_seen"]) == (["grey", [1, 2]], [5])


@pytest.mark.slow
def test_threads_do_not_mix_what_their_runs_count(make_cluster: MakeCluster) -> None:
    """With the threads pool a row has its own run's stats, and no counts of clients that all runs share."""
    cluster = make_cluster(labourers={"plain": labourer("Plain", max_simultaneous_invocations=4)}, **SHORT)
    cluster.worker()
    cluster.beat()
    cluster.worker("plain", "-P", "threads", "-c", "4")
    rows = run_job(cluster, "plain", {f"g{number}": {"n": number, "seconds": 0.2} for number in range(12)})
    assert sorted(row.extra["result_doubled"] for row in rows) == [2 * number for number in range(12)]
    assert {row.extra["stat_steps"] for row in rows} == {2}


@pytest.mark.slow
@pytest.mark.parametrize("close_through", ["direct", "assistant"])
def test_a_task_that_its_body_marks_is_closed_so_and_no_later_word_counts(
    make_cluster: MakeCluster, close_through: str
) -> None:
    """Marked as completed it is closed while the body goes on, with the counts so far, and its slot is kept; marked as
    failed it is tried again; what comes after the first word, an exception too, changes nothing."""
    cluster = make_cluster(labourers={"marking": labourer("Marking", close_through=close_through)}, **SHORT)
    cluster.worker()
    cluster.beat()
    cluster.worker("marking", "-c", "2")
    submitted = cluster.submit(job("marking", {"early": {"how": "completed", "file": "go on"}}))
    cluster.ended(submitted)
    assert cluster.services.slots.look("marking").running == 1
    waiting = cluster.submit(job("marking", {"next": {"how": ""}}))
    assert [span.end for span in cluster.spans()] == [None]
    Path(cluster.history, "go on").touch()
    cluster.ended(waiting)
    assert cluster.most_at_once() == 1
    early, unmarked = cluster.closed("marking")
    assert (early.extra["stat_before"], early.extra.get("stat_after")) == (1, None)
    assert (unmarked.extra["stat_before"], unmarked.extra["stat_after"]) == (1, 1)

    hows = ["completed and raise", "failed", "failed then closed"]
    run_job(cluster, "marking", {how: {"how": how} for how in hows})
    rows = {json.loads(row.payload)["how"]: row for row in cluster.closed("marking")[2:]}
    assert {how: (row.attempts, row.extra.get("last_error")) for how, row in rows.items()} == {
        "completed and raise": (1, None),
        "failed": (2, "no luck"),
        "failed then closed": (2, "no luck"),
    }
    (dead,) = run_job(cluster, "marking", {"g": {"how": "foreign"}}, status=0)
    assert "marks its own task" in dead.extra["last_error"]


@pytest.fixture
def assisted(make_cluster: MakeCluster) -> Cluster:
    """A cluster whose labourers close through the assistant; its essentials run, its workers have no AWS at all."""
    cluster = make_cluster(
        labourers={
            "plain": labourer("Plain", max_simultaneous_invocations=3, close_through="assistant"),
            "spawning": labourer("Spawning", max_simultaneous_invocations=3, close_through="assistant"),
        },
        **SHORT,
    )
    cluster.worker()
    cluster.beat()
    return cluster


def start_without_aws(cluster: Cluster, queues: str, *options: str) -> Any:
    """Start a worker that can reach no table: no address, no region, no credentials."""
    environment = {name: value for name, value in cluster.environment.items() if not name.startswith("AWS_")}
    environment["TEST_SOSW"] = json.dumps({**cluster.section, "dynamodb_endpoint": NOWHERE})
    full, cluster.environment = cluster.environment, environment
    try:
        return cluster.worker(queues, *options)
    finally:
        cluster.environment = full


@pytest.mark.slow
def test_workers_without_any_access_to_the_tables_run_tasks(assisted: Cluster) -> None:
    """Tasks run, fail, are tried again and end in processes that can reach no table; the cap holds."""
    node = start_without_aws(assisted, "plain", "-c", "5")
    groups = {f"g{number}": {"n": number, "seconds": 0.1, "fails": number % 4 == 0} for number in range(24)}
    rows = run_job(assisted, "plain", groups)
    assert sorted(row.extra["result_doubled"] for row in rows) == [2 * number for number in range(24)]
    assert {row.extra["stat_steps"] for row in rows} == {2}
    assert sorted(row.attempts for row in rows) == [1] * 18 + [2] * 6
    assert assisted.most_at_once() <= 3
    assert "dynamodb" not in assisted.log(node).lower()


@pytest.mark.slow
def test_tasks_of_such_workers_are_found_when_node_and_messages_are_lost(assisted: Cluster) -> None:
    """A killed node's tasks, and those whose messages are gone with Redis, are tried again; none runs beside itself."""
    doomed = start_without_aws(assisted, "plain", "-c", "3")
    submitted = assisted.submit(job("plain", {f"g{number}": {"n": number, "seconds": 0.5} for number in range(9)}))
    assisted.wait_for(lambda: len(assisted.spans()) >= 3, 20, "three tasks to run")
    os.killpg(doomed.pid, signal.SIGKILL)
    assisted.wait_for(lambda: assisted.services.redis.llen("plain") > 0, 20, "hints of claimed tasks on the queue")
    assisted.services.redis.flushall()
    start_without_aws(assisted, "plain", "-c", "3")
    summary = assisted.ended(submitted, 90)
    assert (summary.completed, summary.dead) == (9, 0)
    assert assisted.most_at_once() <= 3


@pytest.mark.slow
def test_siblings_of_such_workers_are_spawned_when_the_attempt_is_closed(assisted: Cluster) -> None:
    """A line of siblings goes on through the assistant, each once, though an attempt fails after spawning."""
    start_without_aws(assisted, "spawning", "-c", "3")
    rows = run_job(assisted, "spawning", {"g": {"left": 3, "fails": True}})
    assert sorted(json.loads(row.payload)["left"] for row in rows) == [0, 1, 2, 3]
    assert {row.attempts for row in rows} == {2}


@pytest.mark.slow
def test_a_line_of_siblings_belongs_to_its_job_and_has_an_end(make_cluster: MakeCluster) -> None:
    """Siblings are tasks of their job, spawned once though their parent runs again; equal ones of one run are several;
    at `max_sibling_depth` the next one is refused."""
    spawning = labourer("Spawning", max_simultaneous_invocations=2)
    cluster = make_cluster(labourers={"spawning": spawning}, max_sibling_depth=3, **SHORT)
    cluster.worker()
    cluster.beat()
    cluster.worker("spawning", "-c", "2")
    summary = cluster.ended(cluster.submit(job("spawning", {"g": {"left": 9, "fails": True}})), 90)
    assert (summary.state, summary.tasks, summary.completed) == (JobState.COMPLETED, 4, 4)
    rows = sorted(cluster.closed("spawning"), key=lambda row: row.extra.get("sibling_depth", 0))
    assert [row.extra.get("sibling_depth", 0) for row in rows] == [0, 1, 2, 3]
    assert [row.extra.get("spawned_by") for row in rows] == [None, *(row.task_id for row in rows[:-1])]
    assert [row.extra.get("result_sibling") for row in rows] == [*(row.task_id for row in rows[1:]), None]
    assert "max_sibling_depth is 3" in rows[-1].extra["result_refused"]
    assert {json.loads(row.payload).get("job_id") for row in rows} == {None}

    twins = cluster.ended(cluster.submit(job("spawning", {"g": {"left": 1, "twins": 2, "fails": True}})), 90)
    assert (twins.tasks, twins.completed) == (4, 4)


class Gate:
    """A door in front of a server that a test can shut: connections break then, and new ones are refused."""

    def __init__(self, target: str) -> None:
        host, _, port = target.removeprefix("http://").partition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def shut(self) -> None:
        """Break what is open and let nobody in any more."""
        # A thread in accept() keeps a closed listener alive; shutting it down wakes that thread.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._open:
            with contextlib.suppress(OSError):  # wakes the threads that read, which close it
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                ours, _ = self._listener.accept()
            except OSError:
                return
            theirs = socket.create_connection(self._target)
            self._open += [ours, theirs]
            for pair in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=self._pass, args=pair, daemon=True).start()

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError), source, target:
            while data := source.recv(65536):
                target.sendall(data)


@pytest.fixture
def gate(dynamodb_endpoint: str) -> Iterator[Gate]:
    """A door in front of the DynamoDB engine."""
    door = Gate(dynamodb_endpoint)
    yield door
    with contextlib.suppress(OSError):  # shut by the test
        door.shut()


@pytest.mark.slow
def test_a_close_that_cannot_be_written_is_written_by_the_assistant(make_cluster: MakeCluster, gate: Gate) -> None:
    """A worker that loses DynamoDB while it works hands its outcomes over: each task ends in its first attempt."""
    plain = labourer("Plain", max_simultaneous_invocations=2)
    cluster = make_cluster(labourers={"plain": plain}, **SHORT)
    cluster.worker()
    cluster.beat()
    node = cluster.worker(
        "plain", "-c", "2", TEST_SOSW=json.dumps({**cluster.section, "dynamodb_endpoint": gate.address})
    )
    submitted = cluster.submit(job("plain", {f"g{number}": {"n": number, "file": "go on"} for number in range(2)}))
    cluster.wait_for(lambda: len(cluster.spans()) == 2, 20, "two tasks to run")
    gate.shut()
    Path(cluster.history, "go on").touch()
    summary = cluster.ended(submitted, 100)
    assert (summary.completed, summary.dead) == (2, 0)
    rows = cluster.closed("plain")
    assert [(row.attempts, row.extra["stat_steps"]) for row in rows] == [(1, 2), (1, 2)]
    assert cluster.log(node).count("handed to the assistant") == 2
    assert cluster.services.slots.look("plain").running == 0


#: A program of another kind that closes tasks through the assistant, and prints what became of each message.
PROGRAM = """
import json, sys
from celery.exceptions import TimeoutError
from sosw_celery import app

def told(message):
    result = app.send_task("worker_assistant", [message], queue="sosw_worker_assistant")
    try:
        return result.get(timeout=15 if message.get("task_id") != "gone" else 2)
    except TimeoutError:
        return "nothing"
    except Exception as error:
        return f"{type(error).__name__}: {error}"

print(json.dumps([told(message) for message in json.load(sys.stdin)]))
"""


@pytest.mark.slow
def test_the_assistant_refuses_what_it_cannot_do_and_says_why(make_cluster: MakeCluster) -> None:
    """An unknown action or a missing parameter comes back as an error that names it; who is right hears nothing."""
    cluster = make_cluster(labourers={"plain": labourer("Plain")}, **SHORT)
    cluster.worker()
    good = {"action": "mark_task_as_completed", "labourer_id": "plain", "task_id": "gone", "attempt": 1}
    bad = {**good, "task_id": "t"}
    messages: dict[str, dict[str, Any]] = {
        "got a text of 17 characters": {**bad, "action": "mark_task_as_done"},
        "action: expected one of mark_task_as_completed, mark_task_as_failed": {},
        "task_id: expected a text": {**bad, "task_id": ""},
        "attempt: expected a whole number": {**bad, "attempt": None},
        "labourer_id: expected a text": {key: value for key, value in bad.items() if key != "labourer_id"},
        "stats: expected an object": {**bad, "stats": [1]},
        "nothing": good,
    }
    program = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=cluster.environment,
        input=json.dumps(list(messages.values())),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert program.returncode == 0, program.stderr + cluster.tails()
    for problem, told in zip(messages, json.loads(program.stdout), strict=True):
        assert problem in told
        assert told == "nothing" or told.startswith("InvalidAction: ")


@pytest.mark.slow
def test_a_stored_configuration_is_taken_over_between_two_runs(make_cluster: MakeCluster, unique: str) -> None:
    """What changes in the table `config` counts from the next run on, over DEFAULT_CONFIG and under custom_config; a
    store that is gone changes nothing for who knows its entry."""
    table = f"config{unique}"
    cluster = make_cluster(
        labourers={"keeping": labourer("Keeping", custom_config={"sizes": [9]})},
        stored_config={"source": "dynamo", "table_name": table, "refresh_s": 0},
        **SHORT,
    )
    create_table(cluster, table, ("env", "S"), ("config_name", "S"))
    cluster.worker()
    cluster.beat()
    cluster.worker("keeping", "-c", "1")
    run_job(cluster, "keeping", {"g": {"n": 1}})
    with table_client(cluster, table) as client:
        changed = json.dumps({"colour": "green", "sizes": [7, 7]})
        client.put({"env": "production", "config_name": "keeping_config", "config_value": changed})
        run_job(cluster, "keeping", {"g": {"n": 1}})
        client.dynamo_client.delete_table(TableName=table)
    run_job(cluster, "keeping", {"g": {"n": 1}})
    configs = [row.extra["result_config"] for row in cluster.closed("keeping")]
    assert configs == [["grey", [9]], ["green", [9]], ["green", [9]]]
