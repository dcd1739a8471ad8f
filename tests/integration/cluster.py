"""Real worker processes on real servers, for tests: start them, kill them, and read what their tasks wrote down."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.harness.client import Client, table_names
from tests.harness.overlap import most_at_once
from tests.harness.waiting import wait_for
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


class Cluster(Client):
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
            "task_config": table_names(table_prefix),
            "job_schema": {"chunkable_attrs": ["group", "value"]},
            "sweep_s": 0.5,
            "safety_net_s": 1,
            **section,
        }
        super().__init__(self.section, redis_url, self.tails)
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
        self.close()

    def wait_for(
        self,
        condition: Callable[[], object],
        timeout_s: float,
        what: str,
        process: Process | None = None,
    ) -> None:
        """Wait until the condition holds; for no longer than the process lives, where it is that of a process.

        Raises:
            TimeoutError: It does not within the time, or the process has died.
        """

        def is_through() -> bool:
            if process is not None and process.poll() is not None:
                raise TimeoutError(f"{what}: died\n{self.tails()}")
            return bool(condition())

        wait_for(is_through, timeout_s, what, why=self.tails)

    def tails(self) -> str:
        """Return the end of every process's log, for the message of a failed test."""
        logs = [(process.log, self.log(process)) for process in self.processes]
        return "\n".join(f"--- {path.name}\n{text[-3000:]}" for path, text in logs)

    # ---- what happened

    def spans(self) -> list[Span]:
        """Return every run of a task's body that any process wrote down."""
        starts: dict[tuple[str, int, int], float] = {}
        ends: dict[tuple[str, int, int], float] = {}
        for path in self.history.glob("*.jsonl"):
            for line in map(json.loads, path.read_text().splitlines()):
                key = (line["task"], line["n"], line["pid"])
                (starts if line["kind"] == "start" else ends)[key] = line["at"]
        return [Span(task, n, at, ends.get((task, n, pid))) for (task, n, pid), at in starts.items()]

    def most_at_once(self) -> int:
        """Return how many bodies ran at the worst instant; one whose process died counts as an instant."""
        return most_at_once((span.start, span.end or span.start) for span in self.spans())
