"""The configuration as a user writes it: code beside it is found, and what is wrong with it is one line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from sosw_celery.core.jobs.plan import task_id
from sosw_celery.local.servers import RedisServer
from sosw_celery.system.exits import ExitCode
from tests.acceptance.shell import Shell, await_, descendants, kill
from tests.harness.client import table_names

#: Starts a command of the `celery` script; returns where its output goes.
Celery = Callable[..., Path]

ESSENTIALS = "sosw_scheduler,sosw_orchestrator,sosw_scavenger,sosw_worker_assistant"

CONFIG = """
import os

broker_url = result_backend = os.environ.get("SOSW_REDIS_URL", "redis://127.0.0.1:1/0")
sosw = {
    "redis_url": broker_url,
    "dynamodb_endpoint": os.environ.get("SOSW_DYNAMODB_ENDPOINT"),
    "queue_bucket": os.environ.get("SOSW_QUEUE_BUCKET", "file:///nowhere"),
    "job_schema": {"chunkable_attrs": ["item"]},
    "sweep_s": 0.5, "safety_net_s": 1,
    **SECTION
}
"""

#: Every place of a configuration that names code of one's own.
NAMING = {
    "labourers": {
        "some_function": {
            "worker": "my_module:Processor",
            "custom_config": {"init_clients": ["my_clients:PriceClient"]},
            "health_metrics": {
                "load": {
                    "source": "callable",
                    "details": {"function": "my_health:load"},
                    "feelings": {0: 0, 4: 10},
                    "feeling_comparison_operator": ">=",
                    "refresh_s": 1,
                }
            },
        },
        "failing": {"worker": "my_module:Failing", "max_attempts": 1},
    },
    "scheduler_class": "my_scheduler:OurScheduler",
    "custom_period_patterns": {"of_ours": "my_periods:days"},
    "notices": {"call": "my_notices:tell", "every_s": 1},
}

MODULES = {
    "my_module.py": """
from sosw_celery import Worker

class Processor(Worker):
    def __call__(self, event):
        import my_helper                       # when it runs, not when it is imported
        self.result["found"] = f"{my_helper.NAME} {self.price_client.price} {event['date_list']}"
        super().__call__(event, reset_result=False)

class Failing(Worker):
    def __call__(self, event):
        raise ValueError("on purpose")
""",
    "my_helper.py": "NAME = 'helped'\n",
    "my_clients.py": "class PriceClient:\n    price = 7\n",
    "my_health.py": "import pathlib\n\ndef load():\n    pathlib.Path('health').touch()\n    return 50\n",
    "my_scheduler.py": """
import pathlib
from sosw_celery import Scheduler

class OurScheduler(Scheduler):
    def parse_job_to_file(self, job):
        pathlib.Path("scheduler").touch()
        return super().parse_job_to_file(job)
""",
    "my_periods.py": "def days(match, today):\n    return ['2026-01-02']\n",
    "my_notices.py": """
import pathlib

def tell(notice):
    pathlib.Path("notice").write_text(notice["text"] if "text" in notice else str(notice))
""",
}


def configure(shell: Shell, section: object) -> None:
    """Write a celeryconfig.py with these settings."""
    shell.write("celeryconfig.py", CONFIG.replace("SECTION", repr(section)))


@pytest.fixture
def servers(redis_url: str, dynamodb_endpoint: str, tmp_path: Path) -> dict[str, str]:
    """The addresses of real servers, as the environment says them."""
    return {
        "SOSW_REDIS_URL": redis_url,
        "SOSW_DYNAMODB_ENDPOINT": dynamodb_endpoint,
        "SOSW_QUEUE_BUCKET": (tmp_path / "queue").as_uri(),
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }


@pytest.fixture
def celery(shell: Shell, servers: dict[str, str]) -> Iterator[Celery]:
    """Starts `celery -A sosw_celery ...` by its console script; all of them end with the test."""
    shell.environment.update(servers)
    started = []

    def start(*arguments: str) -> Path:
        log = shell.directory / f"{len(started)}.log"
        started.append(shell.start("celery", "-A", "sosw_celery", *arguments, log=log))
        return log

    yield start
    for process in started:
        for pid in [*descendants(process.pid), process.pid]:
            kill(pid)
        process.wait()


def test_code_beside_the_configuration_is_found_by_all_that_name_it(
    shell: Shell, celery: Celery, table_prefix: str
) -> None:
    """Labourers, clients, health, periods, the Scheduler and notices: no PYTHONPATH, the `celery` script itself."""
    configure(shell, {**NAMING, "task_config": table_names(table_prefix)})
    for name, text in MODULES.items():
        shell.write(name, text)
    made = shell.run("sosw-celery", "init")
    assert made.returncode == 0, made.stderr
    log = celery("worker", "-Q", f"some_function,failing,{ESSENTIALS}", "-c", "2")
    celery("beat", "--schedule", str(shell.directory / "beat-schedule"))
    job = '{"lambda_name": "some_function", "period": "of_ours"}'
    done = shell.run("sosw-celery", "schedule", "-", "--wait", "--job-id", "j", stdin=job)
    assert done.returncode == 0, done.stderr + log.read_text()
    task = json.loads(shell.run("sosw-celery", "task", task_id("j", 0), "--json").stdout)
    assert task["result_found"] == "helped 7 ['2026-01-02']"
    assert {"scheduler", "health"} <= {path.name for path in shell.directory.iterdir()}
    failed = shell.run("sosw-celery", "schedule", "-", "--wait", stdin='{"lambda_name": "failing"}')
    assert failed.returncode == ExitCode.DEAD_TASKS, failed.stderr
    await_(lambda: (shell.directory / "notice").exists(), lambda: f"the notice\n{log.read_text()}")


@pytest.mark.parametrize(
    ("command", "section", "line"),
    [
        (("worker", "-Q", "work"), None, "configuration: expected a module that is found from"),
        (("status",), None, "configuration: expected a module that is found from"),
        (("beat",), {"labourerz": {}}, "sosw.labourerz: expected a known key (did you mean 'labourers'?), got {}"),
        (
            ("worker",),
            {"labourers": {"work": {"max_simultaneous_invocations": 0}}},
            "greater than or equal to 1, got 0",
        ),
        (("worker", "-Q", "work"), {"labourers": {"work": {"worker": "raising:X"}}}, "division by zero, at raising.py"),
    ],
)
def test_celerys_own_commands_tell_what_is_wrong_in_one_line(
    shell: Shell, command: tuple[str, ...], section: object, line: str
) -> None:
    """The line that `sosw-celery` prints, and its exit code: no configuration, a wrong key, a wrong value, no code."""
    shell.write("raising.py", "1 / 0\n")
    if section is not None:
        configure(shell, section)
    done = shell.run("celery", "-q", "-A", "sosw_celery", *command)
    *before, last = done.stderr.splitlines()
    assert done.returncode == ExitCode.CONFIG, done.stderr
    assert last.startswith("error: ")
    assert line in last
    assert "Traceback" not in "".join(before)


def test_the_code_of_a_labourer_is_missed_by_its_own_nodes_alone(shell: Shell, celery: Celery) -> None:
    """The essentials and beat start without it and say so; `up` ends, since nothing it could do would help."""
    configure(shell, {"labourers": {"work": {"worker": "nowhere:Work"}}})
    essentials = celery("worker", "-Q", ESSENTIALS, "-c", "1", "-l", "INFO", "--without-mingle")
    beat = celery("beat", "--schedule", str(shell.directory / "beat-schedule"))
    await_(
        lambda: "Task sosw.dispatch_all" in essentials.read_text(), lambda: essentials.read_text() + beat.read_text()
    )
    for log in (essentials, beat):
        assert "No module named 'nowhere'" in log.read_text()
    done = shell.run("sosw-celery", "up", SOSW_REDIS_URL="", SOSW_DYNAMODB_ENDPOINT="")
    assert done.returncode == ExitCode.CONFIG
    assert done.stderr == "error: work did not start (exit status 7); it says why above\n"
    told = [line for line in done.stdout.splitlines() if line.startswith("work ") and "nowhere" in line]
    assert len(told) == 1


def test_no_command_of_celery_shows_a_secret(shell: Shell, celery: Celery, redis_server: RedisServer) -> None:
    """A node that uses a password tells it to nobody: not in its log, not by `inspect`, not in a report."""
    address = urlsplit(redis_server.url)
    with redis.Redis.from_url(redis_server.url) as client:
        client.acl_setuser(
            "ours", enabled=True, passwords=["+canary-1"], keys=["*"], channels=["*"], commands=["+@all"]
        )
    shell.environment["SOSW_REDIS_URL"] = f"redis://ours:canary-1@{address.hostname}:{address.port}/3"
    configure(shell, {"notices": {"webhook": "https://127.0.0.1:1/canary-2"}})
    log = celery("worker", "-Q", "sosw_worker_assistant", "-c", "1", "--without-mingle", "-l", "INFO")
    await_(lambda: " ready." in log.read_text(), log.read_text)
    commands = (("inspect", "conf"), ("inspect", "stats"), ("inspect", "report"), ("report",))
    told = [shell.run("celery", "-A", "sosw_celery", *command) for command in commands]
    assert [one.returncode for one in told] == [0] * len(commands), told
    assert "canary" not in "".join(one.stdout + one.stderr for one in told) + log.read_text()
    assert told[0].stdout.count("redis://ours:***@") == 3  # broker, result backend, slots
