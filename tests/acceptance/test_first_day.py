"""A newcomer's mistakes with the real commands: one line each that says what was asked, where, and what to do."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from sosw_celery.local import DynamoServer, RedisServer
from sosw_celery.system.exits import ExitCode
from tests.acceptance.shell import Desk, await_

ESSENTIALS = "sosw_scheduler,sosw_orchestrator,sosw_scavenger,sosw_worker_assistant"


@contextmanager
def worker(desk: Desk, *options: str, **environment: str) -> Iterator[Path]:
    """Run `celery -A sosw_celery worker` with these options; gives its log once it is ready."""
    log = desk.directory / f"worker-{len(list(desk.directory.glob('worker-*')))}.log"
    command = ("celery", "-A", "sosw_celery", "worker", "-l", "INFO", "--pool", "threads", "-c", "1", *options)
    process = desk.start(*command, log=log, **environment)
    try:
        await_(lambda: "ready." in log.read_text(), log.read_text)
        yield log
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def addresses(redis_server: RedisServer, dynamodb_server: DynamoServer, tmp_path: Path) -> dict[str, str]:
    """The environment that names servers without any table, as a shell exports it."""
    return {
        "SOSW_REDIS_URL": redis_server.url,
        "SOSW_DYNAMODB_ENDPOINT": dynamodb_server.endpoint,
        "SOSW_QUEUE_BUCKET": (tmp_path / "queue").as_uri(),
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }


TABLES = """
sosw["task_config"] = {"dynamo_db_config": {"table_name": "first_day_tasks"}}
"""


@pytest.fixture
def lonely(own_desk: Desk) -> Desk:
    """A desk whose tables nobody has made."""
    own_desk.write("celeryconfig.py", Desk.CONFIG + TABLES)
    return own_desk


def test_a_worker_without_a_queue_of_ours_says_how_to_start_it(lonely: Desk, addresses: dict[str, str]) -> None:
    """A forgotten -Q is a line in the log with the command that was meant."""
    with worker(lonely, "-n", "lost@%h", **addresses) as log:
        line = "this node serves no labourer and does none of the system's work (its queues: 'celery'); start it with"
        await_(lambda: f"{line} -Q work" in log.read_text(), log.read_text)


def test_a_worker_says_what_is_mistyped_and_which_table_is_missing(lonely: Desk, addresses: dict[str, str]) -> None:
    """A queue that nobody fills, and tables that nobody made."""
    with worker(lonely, "-Q", "work,fragil", "-n", "typo@%h", **addresses) as log:
        line = "queue 'fragil' is neither a labourer's nor the system's, did you mean 'fragile'?"
        await_(lambda: line in log.read_text(), log.read_text)
        await_(lambda: "make the tables with `sosw-celery init`" in log.read_text(), log.read_text)
        assert "Traceback" not in log.read_text()


def test_a_worker_with_a_wrong_password_for_the_slots_says_so(lonely: Desk, addresses: dict[str, str]) -> None:
    """The broker may be all right, and the Redis of the slots refuse: the address is named, the password is not."""
    with RedisServer() as guarded:
        with redis.from_url(guarded.url) as client:
            client.config_set("requirepass", "right")
        wrong = f"redis://:wrong@127.0.0.1:{guarded.port}/0"
        config = Desk.CONFIG.replace('"redis_url": broker_url', f'"redis_url": {wrong!r}') + TABLES
        lonely.write("celeryconfig.py", config)
        with worker(lonely, "-Q", "work", "-n", "guarded@%h", **addresses) as log:
            line = (
                f"asked at redis://:***@127.0.0.1:{guarded.port}/0: the password of sosw.redis_url is wrong or missing"
            )
            await_(lambda: line in log.read_text(), log.read_text)
            assert "wrong@" not in log.read_text()


def test_a_node_that_died_shows_as_a_problem_of_the_cluster(lonely: Desk, addresses: dict[str, str]) -> None:
    """`health --all` names it, with exit code 1, three heartbeats after its last sign of life."""
    lonely.write("celeryconfig.py", Desk.CONFIG.replace('"lease_s": 4', '"heartbeat_s": 0.5, "lease_s": 4') + TABLES)
    log = lonely.directory / "doomed.log"
    command = ("celery", "-A", "sosw_celery", "worker", "--pool", "threads", "-c", "1", "-Q", "work", "-n", "doomed@h")
    process = lonely.start(*command, log=log, **addresses)
    try:
        await_(lambda: "doomed@h" in lonely.sosw("health", "--all", **addresses).stdout, log.read_text)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    await_(lambda: lonely.sosw("health", "--all", **addresses).returncode == ExitCode.FAILURE, log.read_text)
    shown = lonely.sosw("health", "--all", **addresses).stdout
    assert "doomed@h" in shown
    assert "no sign of life for" in shown


def test_a_broker_that_refuses_a_message_is_a_line_and_the_job_is_accepted(
    lonely: Desk, addresses: dict[str, str]
) -> None:
    """The id is printed, for the job cannot be lost; stderr has one line and no traceback."""
    lonely.sosw("init", **addresses)
    lonely.write(
        "celeryconfig.py",
        Desk.CONFIG.replace("broker_url =", 'broker_url = "redis://127.0.0.1:1/0"\nresult_backend =', 1),
    )
    done = lonely.sosw("schedule", "-", "--job-id", "unsent", job={"lambda_name": "work", "items": ["a"]}, **addresses)
    assert (done.returncode, done.stdout) == (ExitCode.OK, "unsent\n")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "job accepted, its message is sent by the next sweep: OperationalError" in done.stderr
