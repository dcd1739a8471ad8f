"""The real sosw on the same tables, as a program: `upstream_side.py ACTION`, its configuration on standard input."""

from __future__ import annotations

import json
import os
import sys
import types
from collections.abc import Callable
from typing import Any

import boto3
import sosw.scheduler
from botocore.stub import Stubber

# sosw makes its clients when its classes are built; where they connect to is in the environment.
from sosw.managers.task import TaskManager
from sosw.scavenger import Scavenger
from sosw.scheduler import Scheduler


def with_answers(make_client: Callable[..., Any]) -> Callable[..., Any]:
    """Answer for Lambda, which cannot run here: sosw asks it how long a labourer may take."""

    def client(name: str, *args: Any, **kwargs: Any) -> Any:
        made = make_client(name, *args, **kwargs)
        if name == "lambda":
            stubber = Stubber(made)
            for _ in range(20):
                stubber.add_response("get_function_configuration", {"Timeout": 60})
            stubber.activate()
        return made

    return client


boto3.client = with_answers(boto3.client)
# All of sosw's modules share one LambdaGlobals.
sosw.scheduler.global_vars.lambda_context = types.SimpleNamespace(
    aws_request_id="upstream",
    function_name="sosw",
    log_stream_name="stream",
    invoked_function_arn="",
    get_remaining_time_in_millis=lambda: 300_000,
)


def schedule(config: dict[str, Any]) -> object:
    """Have sosw's Scheduler make tasks of the job."""
    os.chdir(config["directory"])
    scheduler = Scheduler(
        custom_config={
            "task_config": config["task_config"],
            "meta_handler_config": config["meta_handler_config"],
            "queue_bucket": config["queue_bucket"],
            "job_schema": config["job_schema"],
            "job_schema_variants": {"default": config["job_schema"]},
        }
    )
    scheduler(config["job"])
    return None


def queue(config: dict[str, Any]) -> object:
    """Return what sosw's TaskManager sees of a labourer: its next tasks, its queue, and its numbers."""
    manager = TaskManager(custom_config=config["task_config"])
    (labourer,) = manager.register_labourers()
    return {
        "next": manager.get_next_for_labourer(labourer, cnt=100, only_ids=True),
        "length": manager.get_length_of_queue_for_labourer(labourer),
        "oldest": manager.get_oldest_greenfield_for_labourer(labourer),
        "running": [task["task_id"] for task in manager.get_running_tasks_for_labourer(labourer)],
        "completed": [task["task_id"] for task in manager.get_completed_tasks_for_labourer(labourer)],
        "average": labourer.get_attr("average_duration"),
    }


def scavenge(config: dict[str, Any]) -> object:
    """Let sosw's Scavenger make its round."""
    scavenger = Scavenger(
        custom_config={"task_config": config["task_config"], "sns_config": {"recipient": "", "subject": ""}}
    )
    scavenger()
    return None


if __name__ == "__main__":
    actions = {"schedule": schedule, "queue": queue, "scavenge": scavenge}
    print(json.dumps(actions[sys.argv[1]](json.load(sys.stdin)), default=str))
