"""Projects of users, with the system on their Celery app, run by the commands that they type."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from sosw_celery.core.tasks.model import JobState
from sosw_celery.local import DynamoServer, RedisServer
from sosw_celery.system.exits import ExitCode
from tests.acceptance.shell import Shell, await_

PROJECTS = Path(__file__).parent / "projects"
SYSTEM = "sosw_scheduler,sosw_orchestrator,sosw_scavenger,sosw_worker_assistant"


class Project(Shell):
    """A directory with a project, and processes of Celery that its user has started there."""

    def __init__(
        self, directory: Path, name: str, app: str, environment: dict[str, str], *, has_tables: bool = True
    ) -> None:
        shutil.copytree(PROJECTS / name, directory)
        super().__init__(directory, environment)
        self._app = app
        self._has_tables = has_tables
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Project:
        if self._has_tables:
            assert self.run("sosw-celery", "-A", self._app, "init").returncode == 0
        return self

    def __exit__(self, *_: object) -> None:
        """End everything."""
        for process in self._running:
            process.send_signal(signal.SIGTERM)
        for process in self._running:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def background(self, *command: str, until: str) -> Path:
        """Start a command, and return its log once it says that it is that far."""
        log = self.directory / f"process-{len(self._running)}.log"
        self._running.append(self.start(*command, log=log))
        await_(lambda: until in log.read_text(), log.read_text)
        return log

    def celery(self, *arguments: str, until: str) -> Path:
        """Start a command of Celery, and return its log once it says that it is that far."""
        return self.background("celery", "-A", self._app, *arguments, "-l", "INFO", until=until)

    def worker(self, queues: str) -> Path:
        """Start a worker."""
        name = f"worker-{len(self._running)}@h"
        return self.celery("worker", "-Q", queues, "-n", name, "-c", "2", until="ready.")

    def beat(self) -> Path:
        """Start a beat."""
        return self.celery("beat", until="beat: Starting")

    def json(self, *arguments: str, job: Any = None) -> Any:
        """Run a command of ours that ends well, and return its JSON."""
        stdin = None if job is None else json.dumps(job)
        done = self.run("sosw-celery", "-A", self._app, *arguments, "--json", stdin=stdin)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def python(self, program: str) -> str:
        """Return what a program of the project's prints."""
        done = self.run(sys.executable, "-c", program)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def await_job(self, job_id: str) -> dict[str, Any]:
        """Return where a job stands that has ended."""
        await_(lambda: JobState(self.json("job", job_id)["state"]).is_ended, lambda: str(self.json("job", job_id)))
        found: dict[str, Any] = self.json("job", job_id)
        return found


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


def test_a_project_runs_its_tasks_and_its_jobs(environment: dict[str, str], tmp_path: Path) -> None:
    """Labourers of both forms, by the project's own worker and beat commands; and a task that was there before."""
    with Project(tmp_path / "plain", "plain", "proj", environment) as plain:
        plain.worker(SYSTEM)
        plain.worker("fetch_prices,count_shops")
        own = plain.worker("sums")
        plain.beat()
        shops: dict[str, Any] = {name: {} for name in "abc"}
        for labourer in ("fetch_prices", "count_shops"):
            job = {"lambda_name": labourer, "isolate_shops": True, "shops": shops}
            summary = plain.json("schedule", "-", "--wait", "--timeout", "60", job=job)
            assert (summary["state"], summary["tasks"], summary["completed"]) == ("completed", 3, 3)
        job_id = plain.python("from proj.tasks import fetch_prices; print(fetch_prices.delay({'shops': ['a']}).id)")
        assert plain.await_job(job_id)["completed"] == 1
        assert plain.python("from proj.tasks import add; print(add.delay(2, 3).get(timeout=30))") == "5"
        assert "proj.tasks.add" in own.read_text()
        assert {row["labourer_id"] for row in plain.json("status")["labourers"]} == {"fetch_prices", "count_shops"}


def test_a_mistake_in_the_section_stops_ours_in_one_line_and_none_of_theirs(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """A worker and a beat that need it end with the code of a wrong configuration; the project's own task runs."""
    with Project(tmp_path / "plain", "plain", "proj", environment, has_tables=False) as plain:
        text = (plain.directory / "proj" / "celery.py").read_text()
        plain.write("proj/celery.py", text.replace('"duration": 30', '"duration": "long"', 1))
        for command in (["worker", "-Q", "fetch_prices"], ["worker", "-Q", SYSTEM], ["beat"]):
            ended = plain.run("celery", "-A", "proj", *command)
            said = [line for line in ended.stderr.splitlines() if "error: " in line]
            assert (ended.returncode, len(said)) == (ExitCode.CONFIG, 1), ended.stderr
            assert "sosw.labourers.fetch_prices.duration: expected" in said[0]
            assert "Traceback" not in ended.stderr
        own = plain.worker("sums")
        assert plain.python("from proj.tasks import add; print(add.delay(2, 3).get(timeout=30))") == "5"
        assert own.read_text().count("sosw.labourers.fetch_prices.duration: expected") == 1


SUBMIT = """
from prices.tasks import cheapest
from sosw_celery import scheduler
for labourer in ("fetch_prices", "count_prices"):
    print(scheduler.delay({"lambda_name": labourer, "isolate_articles": True, "articles": ["tea", "milk"]}).id)
"""


def test_a_project_of_django_keeps_rows_in_its_database(environment: dict[str, str], tmp_path: Path) -> None:
    """Settings under CELERY_SOSW, shared tasks found in the apps of the project, and jobs from `manage.py shell`."""
    environment = {**environment, "DATABASE": str(tmp_path / "shop.sqlite3")}
    with Project(tmp_path / "django", "django", "shop", environment) as shop:
        manage = (sys.executable, "manage.py")
        assert shop.run(*manage, "migrate").returncode == 0
        shop.worker(SYSTEM)
        shop.worker("fetch_prices,count_prices")
        own = shop.worker("shop")
        shop.beat()
        done = shop.run(*manage, "shell", "-v", "0", "-c", SUBMIT)
        assert done.returncode == 0, done.stderr
        for job_id in done.stdout.split():
            assert shop.await_job(job_id)["completed"] == 2
        program = "from prices.tasks import cheapest; print(cheapest.delay().get(timeout=30))"
        assert shop.run(*manage, "shell", "-v", "0", "-c", program).stdout.strip() == "tea"
        assert "prices.tasks.cheapest" in own.read_text()


def test_a_service_of_fastapi_submits_jobs(environment: dict[str, str], tmp_path: Path) -> None:
    """From the thread of a request, by the one app that has the system."""
    with Project(tmp_path / "fastapi", "fastapi", "service", environment) as service:
        log = service.background("uvicorn", "service.web:web", "--port", "0", until="running on http://")
        (address,) = re.findall(r"running on (http://\S+)", log.read_text())
        service.worker(SYSTEM)
        service.worker("make_report")
        service.beat()
        body = json.dumps({"towns": ["Delft", "Breda", "Assen"]}).encode()
        request = urllib.request.Request(f"{address}/reports", data=body, headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            job_id = json.load(answer)["job_id"]
        assert service.await_job(job_id)["completed"] == 3


def seen(environment: dict[str, str], directory: Path) -> tuple[Any, list[dict[str, Any]], str]:
    """Run a plain task in a worker of a project; return what its body saw, what the worker told, and its log."""
    with Project(directory, "alone", "proj", environment, has_tables=False) as project:
        log = project.worker(environment["NAME"])
        program = "import json; from proj import add; print(json.dumps(add.delay(2, 3).get(timeout=30)))"
        found = json.loads(project.python(program))
    told = [json.loads(line) for line in (directory / "told.jsonl").read_text().splitlines()]
    return found, told, log.read_text()


def logged(text: str) -> list[str]:
    """Return the lines of a worker's log, below the banner, without what differs from one run to the next.

    In no order: two processes write them.
    """
    lines = [line.partition("] ")[2] for line in text.splitlines() if line.startswith("[") and "] " in line]
    return sorted(re.sub(r"[0-9a-f-]{36}|[0-9.]{6,}|:[0-9]+/|s?Worker-[0-9]+", "", line) for line in lines)


def test_a_task_of_the_project_is_left_as_it_was(environment: dict[str, str], tmp_path: Path) -> None:
    """Setting by setting, signal by signal, and line by line: a worker without a labourer is as without us."""
    before = seen(environment, tmp_path / "before")
    after = seen({**environment, "INSTALL": "yes"}, tmp_path / "after")
    assert after[0] == before[0]
    settings = [told[0].pop("settings") for _, told, _ in (before, after)]
    # A beat runs ours as well; and a worker of Celery notes there the modules of all tasks that it knows.
    changed = {name for name in settings[0] if settings[0][name] != settings[1].get(name)}
    assert changed == {"beat_scheduler", "include"}
    assert settings[0].keys() == settings[1].keys()
    assert sorted(map(str, after[1])) == sorted(map(str, before[1]))
    assert logged(before[2]) == logged(after[2])


def test_everything_of_a_project_runs_on_one_machine(tmp_path: Path) -> None:
    """`up` starts servers, workers and beat of the project's app, whatever servers its configuration names."""
    nowhere = {"REDIS": "redis://127.0.0.1:1/0", "DYNAMODB": "http://127.0.0.1:1", "FILES": "file:///nowhere"}
    with Project(tmp_path / "plain", "plain", "proj", {**nowhere, "NAME": "plain"}, has_tables=False) as plain:
        log = plain.background("sosw-celery", "-A", "proj", "up", "-l", "INFO", until="ready.")
        await_(lambda: log.read_text().count("ready.") == 3, log.read_text)
        job = {"lambda_name": "fetch_prices", "isolate_shops": True, "shops": {name: {} for name in "abc"}}
        assert plain.json("schedule", "-", "--wait", "--timeout", "60", job=job)["completed"] == 3
        plain.worker("sums")
        assert plain.python("from proj.tasks import add; print(add.delay(2, 3).get(timeout=30))") == "5"
