"""Real worker processes on real servers, for tests: start them, kill them, and read what their tasks wrote down."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celery import Celery

from sosw_celery.config.settings import load_settings
from sosw_celery.core.tasks.model import JobSummary, Task
from sosw_celery.names import QUEUES
from sosw_celery.stores.dynamodb.tables import create_tables
from sosw_celery.wiring.broker import own_keys
from sosw_celery.wiring.container import Services
from tests.nursery import ROOT, Nursery, Process

ESSENTIALS = "sosw_scheduler,sosw_orchestrator,sosw_scavenger,sosw_worker_assistant"
MODULES = Path(__file__).parent / "modules"


@dataclass(frozen=True)
class Span:
    """One run of a task's body, monotonic seconds; `end` is None when the process died in it."""

    task_id: str
    attempt: int
    start: float
    end: float | None


class Cluster:
    """The processes of one test, its tables, and a client of both. All of its processes end with it.

    Parameters:
        redis_url: Of the broker, and of the slots unless `slots_url` names another Redis.
    """

    def __init__(
        self,
        directory: Path,
        nursery: Nursery,
        redis_url: str,
        dynamodb_endpoint: str,
        table_prefix: str,
        slots_url: str | None = None,
        **section: Any,
    ) -> None:
        self.directory = directory
        self._nursery = nursery
        self.history = directory / "history"
        self.history.mkdir()
        self.section: dict[str, Any] = {
            "redis_url": slots_url or redis_url,
            "dynamodb_endpoint": dynamodb_endpoint,
            "queue_bucket": (directory / "queue").as_uri(),
            "task_config": {
                "dynamo_db_config": {"table_name": f"{table_prefix}tasks"},
                "sosw_closed_tasks_table": f"{table_prefix}closed",
                "sosw_retry_tasks_table": f"{table_prefix}retry",
                "sosw_jobs_table": f"{table_prefix}jobs",
            },
            "job_schema": {"chunkable_attrs": ["group", "value"]},
            "sweep_s": 0.5,
            "safety_net_s": 1,
            **section,
        }
        self.settings = load_settings(self.section)
        self.app = Celery("test client", broker=redis_url, backend=redis_url, set_as_current=False)
        self.app.conf.broker_transport_options = own_keys(self.settings.redis_prefix, redis_url, {}) or {}
        self.services = Services(self.app, self.settings)
        self.processes: list[Process] = []
        self.environment = {
            **os.environ,
            "PYTHONPATH": f"{MODULES}{os.pathsep}{ROOT}",
            "CELERY_CONFIG_MODULE": "cluster_config",
            "TEST_REDIS_URL": redis_url,
            "TEST_SOSW": json.dumps(self.section),
            "TEST_HISTORY": str(self.history),
            "TEST_BEAT_FILE": str(directory / "beat"),
            "SOSW_HEALTH_DIR": str(directory / "health"),
        }
        create_tables(self.services.dynamodb, self.services.tables)

    # ---- processes

    def worker(self, queues: str = ESSENTIALS, *options: str, **environment: str) -> Process:
        """Start a worker node and return once it is ready."""
        name = f"{queues.split(',')[0]}-{uuid.uuid4().hex[:6]}"
        process = self.celery("worker", "-Q", queues, "-n", f"{name}@test", "-l", "INFO", *options, **environment)
        self.wait_for(lambda: "ready." in self.log(process), 40, f"worker {name}", process)
        return process

    def beat(self) -> Process:
        """Start beat: the safety net and the sweeps."""
        return self.celery("beat", "-l", "INFO")

    def celery(self, command: str, *options: str, **environment: str) -> Process:
        """Start `celery -A sosw_celery COMMAND OPTIONS`; it is not ready yet."""
        log = self.directory / f"{len(self.processes)}-{command}.log"
        process = self._nursery.start([command, *options], {**self.environment, **environment}, self.directory, log)
        self.processes.append(process)
        return process

    def log(self, process: Process) -> str:
        """Return what a process has printed."""
        return process.log.read_text(errors="replace")

    def stop(self) -> None:
        """End all processes."""
        for process in self.processes:
            process.kill()
        self.app.close()
        self.services.redis.close()

    # ---- jobs

    def submit(self, job: dict[str, Any], job_id: str | None = None, *, ignore_result: bool = True) -> str:
        """Have a job accepted and scheduled, as `scheduler.delay(job)` does."""
        accepted = self.services.scheduler.submit(job, job_id or uuid.uuid4().hex)[0]
        envelope = {"sosw": {"job_id": accepted, "part": None}}
        self.app.send_task("scheduler", [envelope], queue=QUEUES["scheduler"], ignore_result=ignore_result)
        return accepted

    def ended(self, job_id: str, timeout_s: float = 60) -> JobSummary:
        """Wait until every task of the job is closed and return where it stands."""
        self.wait_for(lambda: self.services.job_table.get(job_id).state.is_ended, timeout_s, f"end of {job_id}")
        return self.services.job_table.get(job_id)

    def wait_for(
        self,
        condition: Callable[[], object],
        timeout_s: float,
        what: str,
        process: Process | None = None,
    ) -> None:
        """Wait until the condition holds."""
        end = time.monotonic() + timeout_s
        while not condition():
            died = process is not None and process.poll() is not None
            assert not died, f"{what}: died\n{self.tails()}"
            assert time.monotonic() < end, f"{what}: not within {timeout_s} s\n{self.tails()}"
            time.sleep(0.05)

    def tails(self) -> str:
        """Return the end of every process's log, for the message of a failed test."""
        logs = [(process.log, self.log(process)) for process in self.processes]
        return "\n".join(f"--- {path.name}\n{text[-3000:]}" for path, text in logs)

    # ---- what happened

    def closed(self, labourer_id: str, status: int = 1) -> list[Task]:
        """Return the closed tasks of a labourer, 1 completed or 0 dead."""
        return list(self.services.task_table.closed(labourer_id, status=status))

    def spans(self) -> list[Span]:
        """Return every run of a task's body that any process wrote down."""
        starts: dict[tuple[str, int, int], float] = {}
        ends: dict[tuple[str, int, int], float] = {}
        for path in self.history.glob("*.jsonl"):
            for line in map(json.loads, path.read_text().splitlines()):
                key = (line["task"], line["n"], line["pid"])
                (starts if line["kind"] == "start" else ends)[key] = line["at"]
        return [Span(task, n, at, ends.get((task, n, pid))) for (task, n, pid), at in starts.items()]


def most_at_once(spans: list[Span]) -> int:
    """Return how many runs overlapped at the worst instant; a run without an end counts as an instant."""
    changes = [(span.start, 1) for span in spans] + [(span.end or span.start, -1) for span in spans]
    running = worst = 0
    for _, change in sorted(changes):
        running += change
        worst = max(worst, running)
    return worst
