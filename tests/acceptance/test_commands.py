"""The commands as a user runs them: real processes, in a directory with a celeryconfig, on the local stack."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from typing import Any

import pytest

from sosw_celery.core.jobs.plan import task_id
from sosw_celery.system.exits import ExitCode
from tests.acceptance.shell import Desk, await_, descendants, kill, lives


def job(*items: str, labourer: str = "work") -> dict[str, Any]:
    """Return a job of one task for each item."""
    return {"lambda_name": labourer, "isolate_items": True, "items": list(items)}


def test_schedule_prints_the_id_and_waits_for_the_end(desk: Desk) -> None:
    """Stdout begins with the id, progress is on stderr, the exit code says that all went well."""
    done = desk.sosw("schedule", "-", "--wait", job=job("a", "b", "c"))
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
    lines = desk.sosw("task", task_id("find-me", 0)).stdout.splitlines()
    assert ["job", "find-me"] in [line.split() for line in lines]


def test_submitting_twice_is_submitting_once(desk: Desk) -> None:
    """The second submit of an id gives the job of the first."""
    first = desk.json("schedule", "-", "--job-id", "once", "--wait", job=job("a", "b"))
    assert desk.json("schedule", "-", "--job-id", "once", "--wait", job=job("a", "b")) == first


def test_dead_tasks_have_a_code_of_their_own(desk: Desk) -> None:
    """A job that ended with dead tasks is told from one that ended well, and the task tells why."""
    done = desk.sosw("schedule", "-", "--job-id", "dead", "--wait", job=job("a", "broken", labourer="fragile"))
    assert done.returncode == ExitCode.DEAD_TASKS
    assert done.stderr.splitlines()[-1] == "error: 1 of 2 tasks are dead"
    found = desk.json("task", task_id("dead", 1))
    assert (found["state"], found["last_error"]) == ("closed, dead", "ValueError: broken on purpose")


def test_the_waiting_ends_at_the_timeout_and_the_job_goes_on(desk: Desk) -> None:
    """What is shown on the way is what there is: one running, one queued or handed out."""
    done = desk.sosw("schedule", "-", "--job-id", "slow", "--wait", "--timeout", "1", job=job("gate-1"))
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
    plugin = desk.run("celery", "-A", "sosw_celery", "sosw", "status", "--json")
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
    done = desk.sosw(*arguments)
    assert (done.returncode, done.stderr.strip(), done.stdout) == (ExitCode.NOT_FOUND, line, "")


def test_an_invalid_job_leaves_nothing_behind(desk: Desk) -> None:
    """It is refused before anything is written, with the path of what is wrong."""
    done = desk.sosw("schedule", "-", "--job-id", "wrong", job={**job("a"), "period": "last_blue_moon"})
    assert done.returncode == ExitCode.INVALID_JOB
    assert done.stderr.startswith("error: job.period: ")
    assert desk.sosw("job", "wrong").returncode == ExitCode.NOT_FOUND


def test_init_makes_what_is_missing_only(desk: Desk) -> None:
    """`up` has made all of it, so nothing is left to make."""
    made = desk.json("init")
    assert not any(table["made"] for table in made["tables"])
    assert not made["queue_bucket"]["made"]


def test_a_second_up_on_the_same_data_is_refused(desk: Desk) -> None:
    """Two stacks on one directory would spoil each other's data."""
    done = desk.sosw("up")
    assert done.returncode == ExitCode.FAILURE
    assert "is used by process" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_worker_that_dies_is_started_again(desk: Desk) -> None:
    """The log says so, and a job that comes later is done as if nothing had happened."""
    kill(desk.pid_of("work"))
    await_(lambda: "work has ended (killed by signal 9), again in 1 s" in desk.log.read_text(), desk.log.read_text)
    done = desk.sosw("schedule", "-", "--wait", "--timeout", "40", job=job("a"))
    assert done.returncode == ExitCode.OK, done.stderr


def test_without_servers_the_error_says_how_to_get_some(own_desk: Desk) -> None:
    """A user who forgot `up` reads about it."""
    done = own_desk.sosw("status")
    assert done.returncode in (ExitCode.UNAVAILABLE, ExitCode.CONFIG)
    assert "sosw-celery up" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_configuration_that_is_missing_or_broken_is_one_line(own_desk: Desk) -> None:
    """What is wrong with it, and a code of its own; not a traceback."""
    config = own_desk.directory / "celeryconfig.py"
    config.write_text("sosw = {'lease': 1}")
    assert own_desk.sosw("preview", "-", job={}).stderr.startswith("error: sosw.lease: expected a known key")
    config.write_text("1 / 0")
    assert own_desk.sosw("preview", "-", job={}).stderr.startswith(
        "error: configuration: expected a module that can be imported "
        "(ZeroDivisionError: division by zero, at celeryconfig.py line 1)"
    )
    config.unlink()
    done = own_desk.sosw("preview", "-", job={})
    assert done.returncode == ExitCode.CONFIG
    assert "go where your celeryconfig.py is" in done.stderr


def test_a_reader_that_leaves_early_is_no_error(own_desk: Desk) -> None:
    """`preview | head` ends silently, long before the last payload is made."""
    path = own_desk.directory / "big.json"
    path.write_text(json.dumps(job(*(f"item-{number}" for number in range(300_000)))))
    began = time.monotonic()
    with subprocess.Popen(
        ["sosw-celery", "preview", str(path), "--format", "jsonl"],
        cwd=own_desk.directory,
        env=own_desk.environment,
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
    own_desk.sosw("schedule", "-", "--job-id", "last", job=job("gate-last"))
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
    own_desk.sosw("schedule", "-", "--job-id", "all", job=job("gate-a", "gate-b", *"cdefgh"))
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
