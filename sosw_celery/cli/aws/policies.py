"""IAM policies with the least privileges for each role: built here, and held to what the code calls by a test.

A role is a process, or a person. What it may do is written down as grants on named resources (`tasks`,
`tasks.index`, `queue.objects`); which ARNs these are is told by whoever knows the configuration. A grant on a resource
that the configuration does not have is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ABOUT", "ROLES", "Grant", "Resource", "partition_of", "policy", "table_resources"]


@dataclass(frozen=True)
class Grant:
    """Actions on a named resource. `reason` says why an action is needed that no call of ours has for its name."""

    on: str
    actions: tuple[str, ...]
    reason: str = ""


@dataclass(frozen=True)
class Resource:
    """What a name stands for: ARNs, and the condition under which they may be touched."""

    arns: tuple[str, ...]
    condition: Mapping[str, Any] = field(default_factory=dict)


#: The services of resources that are no tables.
_SERVICES = {"queue": "s3", "parameters": "ssm", "metrics": "cloudwatch", "topic": "sns", "functions": "lambda"}


def _on(name: str, *actions: str, reason: str = "") -> Grant:
    service = _SERVICES.get(name.partition(".")[0], "dynamodb")
    return Grant(name, tuple(f"{service}:{action}" for action in actions), reason)


#: Storing a job.
_ACCEPT = (_on("jobs", "PutItem", "DeleteItem"),)
#: Writing what happened to tasks, where a history is kept.
_TELL = (_on("history", "BatchWriteItem"),)
#: Noting that somebody has to be told of a dead task, where anybody is.
_OWE = (_on("outbox", "PutItem"),)
#: Claiming a task: of a worker, or on behalf of one that goes through the assistant, by who hands a slot on.
_CLAIM = (_on("tasks", "UpdateItem"),)
#: Ending an attempt: completed, failed into the retry table, or dead, which may end its job.
_END = (
    *_CLAIM,
    _on("tasks", "GetItem", "DeleteItem"),
    _on("retry", "PutItem"),
    _on("closed", "PutItem"),
    _on("jobs", "GetItem", "UpdateItem"),
    *_OWE,
    *_TELL,
)
#: Writing the rows of new tasks.
_WRITE = (
    _on("tasks", "PartiQLInsert"),
    _on("tasks", "PutItem", reason="rows go one by one where a batch of statements is refused"),
)
#: Closing a task and claiming the next one in one call.
_GO_ON = (_on("tasks", "PartiQLUpdate"),)
#: Writing a sibling of a running task, unless there is one, or was.
_SPAWN = (
    _on("tasks", "BatchGetItem", "PutItem", "ConditionCheckItem"),
    _on("retry", "BatchGetItem"),
    _on("closed", "BatchGetItem"),
)
#: Moving a row that cannot be read into the closed table.
_SET_ASIDE = (_on("tasks", "DeleteItem"), _on("closed", "PutItem"), _on("jobs", "UpdateItem"), *_OWE)
#: Reading what is stored of a labourer's configuration.
_CONFIGURED = (_on("config", "GetItem"), _on("parameters", "GetParameter"))

#: Running the tasks of labourers that are Lambda functions.
_INVOKE = (_on("functions", "InvokeFunction"),)

ROLES: Mapping[str, tuple[Grant, ...]] = {
    "submitter": _ACCEPT,
    "scheduler": (
        *_ACCEPT,
        _on("jobs", "GetItem", "BatchGetItem", "UpdateItem"),
        *_WRITE,
        _on("tasks", "BatchGetItem"),
        _on("retry", "BatchGetItem"),
        _on("closed", "BatchGetItem"),
        _on("queue.objects", "GetObject", "PutObject", "DeleteObject"),
        _on("queue.bucket", "ListBucket"),
        *_TELL,
    ),
    "orchestrator": (
        _on("tasks.index", "Query"),
        *_CLAIM,
        *_SET_ASIDE,
        _on("metrics", "GetMetricStatistics"),
        *_TELL,
    ),
    "worker": (*_END, *_GO_ON, *_SPAWN, *_CONFIGURED, *_INVOKE),
    "worker-through-assistant": (*_CONFIGURED, *_TELL, *_INVOKE),
    "worker-assistant": (*_END, *_SPAWN),
    "scavenger": (
        *_END,
        _on("tasks", "PutItem"),
        _on("tasks.index", "Query"),
        _on("retry", "DeleteItem"),
        _on("retry.index", "Query"),
        _on("closed", "BatchWriteItem"),
        _on("jobs", "BatchGetItem"),
        _on("jobs.index", "Query"),
        _on("outbox", "UpdateItem", "BatchWriteItem"),
        _on("outbox.deaths", "GetItem"),
        _on("topic", "Publish"),
    ),
    "operator": (
        _on("tasks", "GetItem"),
        _on("tasks.index", "Query"),
        _on("retry", "GetItem", "Query"),
        _on("closed", "GetItem"),
        _on("closed.index", "Query"),
        _on("jobs", "GetItem", "BatchGetItem"),
        _on("jobs.index", "Query"),
        _on("history", "Query"),
    ),
    "init": (
        *(_on(table, "CreateTable", "DescribeTable") for table in ("tasks", "closed", "retry", "jobs", "meta")),
        _on("queue.bucket", "ListBucket", "CreateBucket"),
    ),
}

#: What each role is, for people.
ABOUT: Mapping[str, str] = {
    "submitter": "whatever calls scheduler.delay(job), and beat",
    "scheduler": "workers of the queue sosw_scheduler",
    "orchestrator": "workers of the queue sosw_orchestrator",
    "worker": "workers of labourers that close their tasks themselves; what a labourer's own code calls comes on top",
    "worker-through-assistant": "workers of labourers with close_through: assistant",
    "worker-assistant": "workers of the queue sosw_worker_assistant",
    "scavenger": "workers of the queue sosw_scavenger",
    "operator": "people who look: sosw-celery status, job and task; nothing can be changed",
    "init": "whoever runs sosw-celery init",
}


def policy(role: str, resources: Mapping[str, Resource]) -> dict[str, Any]:
    """Return the policy document of a role, with one statement for each resource.

    Parameters:
        resources: Name -> what it stands for; those that the configuration does not have are missing.
    """
    actions: dict[str, set[str]] = {}
    for grant in ROLES[role]:
        if grant.on in resources:
            actions.setdefault(grant.on, set()).update(grant.actions)
    return {
        "Version": "2012-10-17",
        "Statement": [_statement(name, actions[name], resources[name]) for name in sorted(actions)],
    }


def _statement(name: str, actions: Iterable[str], resource: Resource) -> dict[str, Any]:
    condition = {"Condition": dict(resource.condition)} if resource.condition else {}
    return {
        "Sid": "Sosw" + "".join(word.capitalize() for word in name.split(".")),
        "Effect": "Allow",
        "Action": sorted(actions),
        "Resource": list(resource.arns),
        **condition,
    }


def table_resources(name: str, arn: str, indexes: Iterable[str]) -> dict[str, Resource]:
    """Return the resources of a table: itself, and its indexes together as `NAME.index`."""
    arns = tuple(f"{arn}/index/{index}" for index in indexes)
    return {name: Resource((arn,)), **({f"{name}.index": Resource(arns)} if arns else {})}


def partition_of(region: str) -> str:
    """Return the partition that ARNs of a region begin with; `*` as region means the commercial one."""
    prefixes = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}
    return next((partition for prefix, partition in prefixes.items() if region.startswith(prefix)), "aws")
