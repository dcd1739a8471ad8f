"""Projects of users, with the system on their Celery app, run by the commands that they type."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sosw_celery.local import DynamoServer, RedisServer
from tests.acceptance.shell import Shell, await_

PROJECTS = Path(__file__).parent / "projects"
SYSTEM = "sosw_scheduler,sosw_orchestrator,sosw_scavenger,sosw_worker_assistant"


class Project(Shell):
    """A directory with a project, and processes of Celery that its user has started there."""

    def __init__(self, directory: Path, name: str, environment: dict[str, str]) -> None:
        shutil.copytree(PROJECTS / name, directory)
        super().__init__(directory, environment)
        self._running: list[subprocess.Popen[bytes]] = []

    def celery(self, *arguments: str, until: str) -> Path:
        """Start a command of Celery, and return its log once it says that it is that far."""
        log = self.directory / f"celery-{len(self._running)}.log"
        self._running.append(self.start("celery", *arguments, "-l", "INFO", log=log))
        await_(lambda: until in log.read_text(), log.read_text)
        return log

    def worker(self, queues: str) -> Path:
        """Start a worker."""
        name = f"worker-{len(self._running)}@h"
        return self.celery("-A", "proj", "worker", "-Q", queues, "-n", name, "-c", "2", until="ready.")

    def json(self, *arguments: str, job: Any = None) -> Any:
        """Run a command of ours that ends well, and return its JSON."""
        stdin = None if job is None else json.dumps(job)
        done = self.run("sosw-celery", "-A", "proj", *arguments, "--json", stdin=stdin)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def python(self, program: str) -> str:
        """Return what a program of the project's prints."""
        done = self.run(sys.executable, "-c", program)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def end(self) -> None:
        """End everything."""
        for process in self._running:
            process.send_signal(signal.SIGTERM)
        for process in self._running:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def environment(
    redis_server: RedisServer, dynamodb_server: DynamoServer, table_prefix: str, tmp_path: Path
) -> dict[str, str]:
    """The servers of a project, and names of its own there."""
    return {
        "REDIS": redis_server.url,
        "DYNAMODB": dynamodb_server.endpoint,
        "FILES": (tmp_path / "queue").as_uri(),
        "NAME": table_prefix.replace("-", "_"),
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
    }


@pytest.fixture
def plain(environment: dict[str, str], tmp_path: Path) -> Iterator[Project]:
    """A project with an app of its own."""
    project = Project(tmp_path / "plain", "plain", environment)
    assert project.run("sosw-celery", "-A", "proj", "init").returncode == 0
    yield project
    project.end()


def test_a_project_runs_its_tasks_and_its_jobs(plain: Project) -> None:
    """Labourers of both forms, by the project's own worker and beat commands; and a task that was there before."""
    plain.worker(SYSTEM)
    plain.worker("fetch_prices,count_shops")
    own = plain.worker("sums")
    plain.celery("-A", "proj", "beat", until="beat: Starting")
    shops = {name: {} for name in "abc"}
    for labourer in ("fetch_prices", "count_shops"):
        job = {"lambda_name": labourer, "isolate_shops": True, "shops": shops}
        summary = plain.json("schedule", "-", "--wait", "--timeout", "60", job=job)
        assert (summary["state"], summary["tasks"], summary["completed"]) == ("completed", 3, 3)
    job_id = plain.python("from proj.tasks import fetch_prices; print(fetch_prices.delay({'shops': ['a']}).id)")
    await_(lambda: plain.json("job", job_id)["state"] == "completed", lambda: str(plain.json("job", job_id)))
    assert plain.python("from proj.tasks import add; print(add.delay(2, 3).get(timeout=30))") == "5"
    assert "proj.tasks.add" in own.read_text()
    assert {row["labourer_id"] for row in plain.json("status")["labourers"]} == {"fetch_prices", "count_shops"}
