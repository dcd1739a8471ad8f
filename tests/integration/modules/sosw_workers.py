"""Labourers in the manner of sosw: classes without a name, which the test's configuration makes labourers."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

from cluster_labourers import record

from sosw_celery import Processor, SoswError, Worker


def wait_for_file(name: str) -> None:
    """Wait until the test has written a file; it fails by its own time limit if it never does."""
    while not Path(os.environ["TEST_HISTORY"], name).exists():
        time.sleep(0.02)


class Counting(Processor):
    """A client that counts."""

    def ask(self) -> None:
        """Count a question."""
        self.stats["asked"] += 1


class Keeping(Worker):
    """Adds up over the runs of a process, with its threads and a client; as the event says, it keeps the result."""

    DEFAULT_CONFIG = {
        "init_clients": ["sosw_workers:Counting"],
        "lifetime_stats_params": ["runs"],
        "colour": "grey",
        "sizes": [1, 2],
    }
    counting_client: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.made_in = os.getpid()

    def __call__(self, event: dict[str, Any]) -> None:
        """Count in every way there is."""
        record("start", event)
        self.stats["runs"] += 1
        self.result["seen"] = [*(self.result["seen"] or []), event["n"]]
        self.result["config"] = [self.config["colour"], self.config["sizes"]]
        self.result["own_process"] = self.made_in == os.getpid()
        helper = threading.Thread(target=self.help)
        helper.start()
        helper.join()
        for _ in range(event["n"]):
            self.counting_client.ask()
        super().__call__(event, reset_result=not event.get("keep"))
        record("end", event)

    def help(self) -> None:
        """Count from another thread."""
        self.stats["helped"] += 1


class Marking(Worker):
    """Closes its task itself, as the event says, and goes on."""

    def __call__(self, event: dict[str, Any]) -> None:
        """Mark, then do what must not matter any more."""
        record("start", event)
        self.stats["before"] += 1
        how = event["how"]
        if how == "foreign":
            self.mark_task_as_completed("some-other-task")
        if "completed" in how:
            self.mark_task_as_completed(event["task_id"])
        if "failed" in how and event["attempts"] == 1:
            self.mark_task_as_failed(reason="no luck")
        if "then" in how:
            self.mark_task_as_completed()
        self.stats["after"] += 1
        if event.get("file"):
            wait_for_file(event["file"])
        if "raise" in how:
            raise ValueError("too late to matter")
        super().__call__(event)
        record("end", event)


class Plain(Worker):
    """Does as its event says; touches nothing but what a labourer has."""

    def __call__(self, event: dict[str, Any]) -> dict[str, Any]:
        """Wait, fail or return."""
        record("start", event)
        self.stats["steps"] += 2
        if event.get("file"):
            wait_for_file(event["file"])
        if event.get("fails") and event["attempts"] == 1:
            raise ValueError("as the event says")
        time.sleep(event.get("seconds", 0))
        super().__call__(event)
        record("end", event)
        return {"doubled": 2 * event.get("n", 0)}


class Spawning(Worker):
    """Spawns the next of its line, and fails after that in its first attempt where the event says so."""

    def __call__(self, event: dict[str, Any]) -> None:
        """Count down by siblings."""
        record("start", event)
        left = event["left"]
        if left:
            try:
                self.result["sibling"] = self.spawn_sibling({**event, "left": left - 1})
            except SoswError as refused:
                self.result["refused"] = str(refused)
            for _ in range(event.get("twins", 0)):
                self.spawn_sibling({"left": 0})
        if event.get("fails") and event["attempts"] == 1:
            raise ValueError("after spawning")
        super().__call__(event)
        record("end", event)
