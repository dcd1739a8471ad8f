"""The commands as a user runs them: real processes, in a directory with a celeryconfig, on the local stack."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sosw_celery.cli.exits import ExitCode
from sosw_celery.core.job_plan import task_id

COMMAND = str(Path(sys.executable).with_name("sosw-celery"))

CONFIG = """
import os

broker_url = result_backend = os.environ.get("SOSW_REDIS_URL", "redis://127.0.0.1:1/0")
imports = ("labourers",)
sosw = {
    "redis_url": broker_url,
    "dynamodb_endpoint": os.environ.get("SOSW_DYNAMODB_ENDPOINT"),
    "queue_bucket": os.environ.get("SOSW_QUEUE_BUCKET", "file:///nowhere"),
    "job_schema": {"chunkable_attrs": ["item"]},
    "labourers": {
        "work": {"max_simultaneous_invocations": 2, "duration": 30, "max_attempts": 5, "retry_backoff": 0.1},
        "fragile": {"duration": 30, "max_attempts": 1},
    },
    "lease_s": 4, "renew_s": 1, "settle_s": 1.5, "hint_lease_s": 4, "sweep_s": 0.5, "safety_net_s": 1,
}
"""

LABOURERS = """
import pathlib, time
from sosw_celery import Worker, app

def run(event):
    for item in event["items"]:
        if item == "broken":
            raise ValueError("broken on purpose")
        if item.startswith("gate"):
            pathlib.Path(f"{item}.reached").touch()
            while not pathlib.Path(f"{item}.open").exists():
                time.sleep(0.02)
    return {"items": len(event["items"])}

@app.task(base=Worker, name="work")
def work(event):
    return run(event)

@app.task(base=Worker, name="fragile")
def fragile(event):
    return run(event)
"""


class Desk:
    """A directory with a configuration, and the commands that are run in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)
        (directory / "celeryconfig.py").write_text(CONFIG)
        (directory / "labourers.py").write_text(LABOURERS)
        self.log = directory / "up.log"
        self._ups: list[subprocess.Popen[bytes]] = []

    def run(self, *arguments: str, job: Any = None) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, with a job on its standard input."""
        return self.shell([COMMAND, *arguments], job)

    def shell(self, command: list[str], job: Any = None) -> subprocess.CompletedProcess[str]:
        """Run any command to its end."""
        text = None if job is None else json.dumps(job)
        return subprocess.run(
            command, cwd=self.directory, input=text, capture_output=True, text=True, timeout=60, check=False
        )

    def json(self, *arguments: str, job: Any = None) -> Any:
        """Run a command that ends well, and return its JSON."""
        done = self.run(*arguments, "--json", job=job)
        assert done.returncode == ExitCode.OK, done.stderr
        return json.loads(done.stdout)

    def up(self) -> subprocess.Popen[bytes]:
        """Start everything, and return once the workers work."""
        with self.log.open("ab") as log:
            log.truncate(0)
            process = subprocess.Popen([COMMAND, "up", "-l", "INFO"], cwd=self.directory, stdout=log, stderr=log)
        self._ups.append(process)
        await_(lambda: self.log.read_text().count("ready.") == 3, lambda: f"workers\n{self.log.read_text()}")
        return process

    def end(self) -> None:
        """End everything at once."""
        for process in self._ups:
            for pid in [*descendants(process.pid), process.pid]:
                kill(pid)
            process.wait()

    def reached(self, gate: str) -> bool:
        """Return whether a task stands at the gate."""
        return (self.directory / f"{gate}.reached").exists()

    def open(self, gate: str) -> None:
        """Let all tasks through the gate, now and later."""
        (self.directory / f"{gate}.open").touch()

    def pid_of(self, role: str) -> int:
        """Return the id of the process that fills a role now."""
        return int(re.findall(rf"started {role}, process (\d+)", self.log.read_text())[-1])


def job(*items: str, labourer: str = "work") -> dict[str, Any]:
    """Return a job of one task for each item."""
    return {"lambda_name": labourer, "isolate_items": True, "items": list(items)}


def await_(condition: Callable[[], object], what: Callable[[], str], timeout_s: float = 40) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


def descendants(pid: int) -> list[int]:
    """Return all processes that a process has started, directly or not."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found = [pid]
    for parent in found:
        found += [child for child, its_parent in parents.items() if its_parent == parent]
    return found[1:]


def kill(pid: int) -> None:
    """Kill a process that may be gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def lives(pid: int) -> bool:
    """Return whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc"),
    pytest.mark.usefixtures("redis_server", "dynamodb_server"),  # they say where an engine is missing
]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A desk at which everything is up."""
    found = Desk(tmp_path_factory.mktemp("desk"))
    try:
        found.up()
        yield found
    finally:
        found.end()


@pytest.fixture
def own_desk(tmp_path: Path) -> Iterator[Desk]:
    """A desk at which nothing is up yet."""
    found = Desk(tmp_path / "desk")
    yield found
    found.end()


def test_schedule_prints_the_id_and_waits_for_the_end(desk: Desk) -> None:
    """Stdout begins with the id, progress is on stderr, the exit code says that all went well."""
    done = desk.run("schedule", "-", "--wait", job=job("a", "b", "c"))
    assert done.returncode == ExitCode.OK, done.stderr
    job_id, *fields = done.stdout.splitlines()
    assert re.fullmatch(r"[0-9a-f-]{36}", job_id)
    assert ["completed", "3"] in [line.split() for line in fields]
    assert done.stderr.splitlines()[-1] == "completed: 3 of 3 tasks"
    assert desk.json("job", job_id)["state"] == "completed"


def test_a_task_is_found_where_it_is(desk: Desk) -> None:
    """A closed task shows its outcome and its payload; its id comes from the job's."""
    desk.json("schedule", "-", "--job-id", "find-me", "--wait", job=job("a"))
    found = desk.json("task", task_id("find-me", 0))
    assert (found["state"], found["attempts"], found["result_items"]) == ("closed, completed", 1, 1)
    assert found["payload"]["items"] == ["a"]
    lines = desk.run("task", task_id("find-me", 0)).stdout.splitlines()
    assert ["job", "find-me"] in [line.split() for line in lines]


def test_submitting_twice_is_submitting_once(desk: Desk) -> None:
    """The second submit of an id gives the job of the first."""
    first = desk.json("schedule", "-", "--job-id", "once", "--wait", job=job("a", "b"))
    assert desk.json("schedule", "-", "--job-id", "once", "--wait", job=job("a", "b")) == first


def test_dead_tasks_have_a_code_of_their_own(desk: Desk) -> None:
    """A job that ended with dead tasks is told from one that ended well, and the task tells why."""
    done = desk.run("schedule", "-", "--job-id", "dead", "--wait", job=job("a", "broken", labourer="fragile"))
    assert done.returncode == ExitCode.DEAD_TASKS
    assert done.stderr.splitlines()[-1] == "error: 1 of 2 tasks are dead"
    found = desk.json("task", task_id("dead", 1))
    assert (found["state"], found["last_error"]) == ("closed, dead", "ValueError: broken on purpose")


def test_the_waiting_ends_at_the_timeout_and_the_job_goes_on(desk: Desk) -> None:
    """What is shown on the way is what there is: one running, one queued or handed out."""
    done = desk.run("schedule", "-", "--job-id", "slow", "--wait", "--timeout", "1", job=job("gate-1"))
    assert done.returncode == ExitCode.TIMEOUT
    assert "job slow has not ended after 1.0 s; it goes on" in done.stderr
    await_(lambda: desk.reached("gate-1"), lambda: "the task")
    shown = desk.json("status")
    assert [one["running"] for one in shown["labourers"]] == [1, 0]
    assert [(one["job_id"], one["tasks"]) for one in shown["jobs"]] == [("slow", 1)]
    assert desk.json("task", task_id("slow", 0))["state"] == "running"
    desk.open("gate-1")
    await_(lambda: desk.json("job", "slow")["state"] == "completed", lambda: "the end of the job")


def test_the_commands_are_celerys_as_well(desk: Desk) -> None:
    """`celery -A sosw_celery sosw status` finds the same servers and says the same."""
    plugin = desk.shell([sys.executable, "-m", "celery", "-A", "sosw_celery", "sosw", "status", "--json"])
    assert plugin.returncode == 0, plugin.stderr
    assert [one["labourer_id"] for one in json.loads(plugin.stdout)["labourers"]] == ["work", "fragile"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("job", "nobody"), "error: no job 'nobody'"),
        (("task", "nobody"), "error: no task 'nobody' in the tasks, retry or closed table"),
    ],
)
def test_what_is_not_there_has_a_code_of_its_own(desk: Desk, arguments: tuple[str, ...], line: str) -> None:
    """One line, one code, nothing on stdout."""
    done = desk.run(*arguments)
    assert (done.returncode, done.stderr.strip(), done.stdout) == (ExitCode.NOT_FOUND, line, "")


def test_an_invalid_job_leaves_nothing_behind(desk: Desk) -> None:
    """It is refused before anything is written, with the path of what is wrong."""
    done = desk.run("schedule", "-", "--job-id", "wrong", job={**job("a"), "period": "last_blue_moon"})
    assert done.returncode == ExitCode.INVALID_JOB
    assert done.stderr.startswith("error: job.period: ")
    assert desk.run("job", "wrong").returncode == ExitCode.NOT_FOUND


def test_init_makes_what_is_missing_only(desk: Desk) -> None:
    """`up` has made all of it, so nothing is left to make."""
    made = desk.json("init")
    assert not any(table["made"] for table in made["tables"])
    assert not made["queue_bucket"]["made"]


def test_a_second_up_on_the_same_data_is_refused(desk: Desk) -> None:
    """Two stacks on one directory would spoil each other's data."""
    done = desk.run("up")
    assert done.returncode == ExitCode.FAILURE
    assert "is used by process" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_worker_that_dies_is_started_again(desk: Desk) -> None:
    """The log says so, and a job that comes later is done as if nothing had happened."""
    kill(desk.pid_of("work"))
    await_(lambda: "work has ended (killed by signal 9), again in 1 s" in desk.log.read_text(), desk.log.read_text)
    done = desk.run("schedule", "-", "--wait", "--timeout", "40", job=job("a"))
    assert done.returncode == ExitCode.OK, done.stderr


def test_without_servers_the_error_says_how_to_get_some(own_desk: Desk) -> None:
    """A user who forgot `up` reads about it."""
    done = own_desk.run("status")
    assert done.returncode in (ExitCode.UNAVAILABLE, ExitCode.CONFIG)
    assert "sosw-celery up" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_configuration_that_is_missing_or_broken_is_one_line(own_desk: Desk) -> None:
    """What is wrong with it, and a code of its own; not a traceback."""
    config = own_desk.directory / "celeryconfig.py"
    config.write_text("sosw = {'lease': 1}")
    assert own_desk.run("preview", "-", job={}).stderr.startswith("error: sosw.lease: expected a known key")
    config.write_text("1 / 0")
    assert "error: configuration celeryconfig: ZeroDivisionError" in own_desk.run("preview", "-", job={}).stderr
    config.unlink()
    done = own_desk.run("preview", "-", job={})
    assert done.returncode == ExitCode.CONFIG
    assert "go where your celeryconfig.py is" in done.stderr


def test_a_reader_that_leaves_early_is_no_error(own_desk: Desk) -> None:
    """`preview | head` ends silently, long before the last payload is made."""
    path = own_desk.directory / "big.json"
    path.write_text(json.dumps(job(*(f"item-{number}" for number in range(300_000)))))
    began = time.monotonic()
    with subprocess.Popen(
        [COMMAND, "preview", str(path), "--format", "jsonl"],
        cwd=own_desk.directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["items"] == ["item-0"]
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == ExitCode.CLOSED_PIPE
    assert time.monotonic() - began < 30


def test_ctrl_c_ends_all_in_good_order(own_desk: Desk) -> None:
    """The running task is finished and closed, exit code 0, and no process is left."""
    up = own_desk.up()
    own_desk.run("schedule", "-", "--job-id", "last", job=job("gate-last"))
    await_(lambda: own_desk.reached("gate-last"), lambda: "the task")
    pids = descendants(up.pid)
    up.send_signal(signal.SIGINT)
    await_(lambda: "running tasks are finished first" in own_desk.log.read_text(), own_desk.log.read_text)
    own_desk.open("gate-last")
    assert up.wait(40) == ExitCode.OK, own_desk.log.read_text()
    await_(lambda: not any(map(lives, pids)), lambda: f"end of {list(filter(lives, pids))}")
    own_desk.up()
    await_(lambda: own_desk.json("job", "last")["state"] == "completed", lambda: "the end of the job")
    assert own_desk.json("task", task_id("last", 0))["attempts"] == 1


@pytest.mark.slow
def test_after_a_kill_of_everything_the_next_up_goes_on(own_desk: Desk) -> None:
    """Servers, workers and supervisors die at once; what ran is run again, what waited is run, nothing is lost."""
    up = own_desk.up()
    own_desk.run("schedule", "-", "--job-id", "all", job=job("gate-a", "gate-b", *"cdefgh"))
    await_(lambda: own_desk.reached("gate-a") and own_desk.reached("gate-b"), lambda: "the tasks")
    for pid in [up.pid, *descendants(up.pid)]:
        kill(pid)
    up.wait()
    own_desk.open("gate-a")
    own_desk.open("gate-b")
    own_desk.up()
    await_(lambda: own_desk.json("job", "all")["state"] == "completed", own_desk.log.read_text, 60)
    assert own_desk.json("job", "all")["completed"] == 8
    assert own_desk.json("task", task_id("all", 0))["attempts"] == 2
    assert own_desk.json("task", task_id("all", 7))["attempts"] == 1
