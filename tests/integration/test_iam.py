"""The IAM policies against what the services really call: nothing is missing, nothing is granted that is not used.

Every role lives a whole life on the real DynamoDB engine (S3 and CloudWatch are moto's), with failures and repairs;
each request that botocore sends is noted with the table, index or object it is for.
"""

from __future__ import annotations

import ast
import contextlib
import itertools
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore import xform_name
from celery import Celery
from moto import mock_aws

import sosw_celery
from sosw_celery import clock
from sosw_celery.cli.aws.policies import ROLES, Resource, policy
from sosw_celery.cli.iam import resources_of
from sosw_celery.cli.init import make_places
from sosw_celery.config.settings import load_settings
from sosw_celery.core.jobs.plan import Envelope, file_name
from sosw_celery.core.tasks.model import Hint, JobState
from sosw_celery.core.tasks.siblings import Sibling
from sosw_celery.errors import InvalidJob, RetryLater, TaskNotFound
from sosw_celery.services.attempts import Outcome, Run
from sosw_celery.services.worker_assistant import closing_message
from sosw_celery.stores.aws.metric_sources import CloudWatch
from sosw_celery.stores.dynamodb import attributes
from sosw_celery.wiring.container import Services
from tests.harness.client import table_names

LABOURER = "resize"
ASSISTED = "resize_far_away"
FELT = "resize_carefully"
LINED = "resize_one_by_one"
BUCKET = "my-queue-bucket"

METRIC = {
    "details": {"MetricName": "CPUUtilization", "Namespace": "AWS/RDS"},
    "feelings": {3: 50, 4: 25},
    "feeling_comparison_operator": "<=",
}

TOPIC = "arn:aws:sns:eu-west-1:123456789012:dead_tasks"

#: Actions of S3 whose names differ from those of the calls.
S3_ACTIONS = {
    "ListObjectsV2": "s3:ListBucket",
    "HeadBucket": "s3:ListBucket",
}
#: What IAM asks for where a call is a transaction: the permissions of its parts.
PARTS = {
    "Put": "dynamodb:PutItem",
    "Update": "dynamodb:UpdateItem",
    "Delete": "dynamodb:DeleteItem",
    "ConditionCheck": "dynamodb:ConditionCheckItem",
}

#: How the code calls a client.
CLIENT = re.compile(r"(client|s3|dynamodb)$")

Call = tuple[str, str]


class Recorder:
    """Notes what a client sends, as pairs of an action and the name that IAM has for what it is done to."""

    def __init__(self) -> None:
        self.calls: set[Call] = set()
        self.operations: set[str] = set()

    def watch(self, client: Any) -> None:
        """Note every request of this client from now on."""
        client.meta.events.register("before-call", self._note)

    def watch_session(self, session: Any) -> None:
        """Note what clients of SNS send that are made from now on."""
        session.events.register("before-call.sns.Publish", self._note)

    def _note(self, model: Any, params: Any, **_: Any) -> None:
        self.operations.add(model.name)
        service = model.service_model.service_name
        if service == "s3":
            self.calls.add(_of_s3(model.name, params))
        elif service == "dynamodb":
            self.calls |= set(_of_dynamodb(model.name, json.loads(params["body"])))
        elif service == "sns":
            self.calls.add(("sns:Publish", name_of(params["body"]["TopicArn"])))
        else:
            self.calls.add((f"{service}:{model.name}", "*"))


def _of_s3(operation: str, params: Any) -> Call:
    url = urlsplit(params["url"])  # https://BUCKET.s3.eu-west-1.amazonaws.com/FOLDER/NAME
    bucket = str(url.hostname).partition(".")[0]
    folder = url.path.rpartition("/")[0]
    return S3_ACTIONS.get(operation, f"s3:{operation}"), f"{bucket}{folder}/*" if folder else bucket


def _of_dynamodb(operation: str, body: dict[str, Any]) -> Iterator[Call]:
    action = f"dynamodb:{operation}"
    if operation == "TransactWriteItems":
        for item in body["TransactItems"]:
            for part, request in item.items():
                yield PARTS[part], f"table/{request['TableName']}"
    elif operation == "BatchExecuteStatement":
        for statement in body["Statements"]:
            verb, name = statement["Statement"].replace("INSERT INTO", "INSERT").split()[:2]
            yield f"dynamodb:PartiQL{verb.title()}", "table/" + name.strip('"')
    elif operation in ("BatchWriteItem", "BatchGetItem"):
        yield from ((action, f"table/{name}") for name in body["RequestItems"])
    else:
        index = f"/index/{body['IndexName']}" if "IndexName" in body else ""
        yield action, f"table/{body['TableName']}{index}"


def granted(role: str, resources: Mapping[str, Resource]) -> set[Call]:
    """Return what the policy of a role allows, in the words of the recorder."""
    statements = policy(role, resources)["Statement"]
    return {(action, name_of(arn)) for one in statements for action in one["Action"] for arn in one["Resource"]}


def name_of(arn: str) -> str:
    """Return the last part of an ARN, the name of what it is about."""
    return arn if arn == "*" else arn.split(":", 5)[5]


class Cast:
    """The roles of one configuration on one set of tables, each with clients of its own that are watched."""

    def __init__(self, section: dict[str, Any]) -> None:
        self.settings = load_settings(section)
        self.app = Celery("cast", broker="memory://", set_as_current=False)
        self.hints: list[Hint] = []
        self.recorders: dict[str, Recorder] = {}
        self.cast: dict[str, Services] = {}
        make_places(self.role("init"))
        self.resources = resources_of(self.settings, region="eu-west-1", account="123456789012")

    def role(self, name: str) -> Services:
        """Return the services of a role's process."""
        if name not in self.cast:
            services = Services(self.app, self.settings)
            publish = services.messenger.publish_hints

            def note(hints: Sequence[Hint]) -> None:
                publish(hints)
                self.hints.extend(hints)

            services.messenger.publish_hints = note  # type: ignore[method-assign]
            self.cast[name], self.recorders[name] = services, Recorder()
            dynamodb = (services.dynamodb, services.hasty_dynamodb, services.task_table.new_rows.client)
            for client in (*dynamodb, services.s3, services.meta_table._client):
                self.recorders[name].watch(client)
            if name == "scavenger":  # the client of SNS is made when it is needed
                self.recorders[name].watch_session(boto3.DEFAULT_SESSION)
        return self.cast[name]

    # ---- lives

    def submit(self, job_id: str, role: str = "submitter", **job: Any) -> str:
        """Have a job accepted."""
        return self.role(role).scheduler.submit({"lambda_name": LABOURER, **job}, job_id)[0]

    def schedule(self, job_id: str, **options: Any) -> None:
        """Have a Scheduler go on with a job."""
        self.role("scheduler").scheduler.run(Envelope(job_id), **options)

    def begin(self) -> list[Run]:
        """Hand out what is free, and have a worker take it up."""
        self.role("orchestrator").orchestrator.dispatch(LABOURER, from_head=True)
        hints, self.hints[:] = list(self.hints), []
        runs = [self.role("worker").attempts.begin(hint) for hint in hints]
        return [run for run in runs if run is not None]

    def begin_assisted(self) -> list[Run]:
        """The same for the labourer whose workers have no access to the tables."""
        if not self.hints:
            self.role("orchestrator").orchestrator.dispatch(ASSISTED, from_head=True)
        hints, self.hints[:] = list(self.hints), []
        runs = [self.role("worker-through-assistant").assisted.begin(hint) for hint in hints]
        return [run for run in runs if run is not None]

    def sweep(self) -> None:
        """Have the Scavenger look at everything, as if Redis knew nothing."""
        for labourer_id in (LABOURER, ASSISTED):
            state = f"{self.settings.redis_prefix}:{{{labourer_id}}}:state"
            self.role("redis").redis.hdel(state, "full_sweep_at")
            self.role("scavenger").scavenger.sweep(labourer_id, thorough=True)
        self.role("scavenger").scavenger.sweep_jobs()

    def break_rows(self, **values: Any) -> None:
        """Put a row into the queue, or among the running ones, that nobody can read."""
        services = self.role("somebody")
        row = {"task_id": {"S": "broken"}, "labourer_id": {"S": LABOURER}, "job_id": {"S": "plain"}, **values}
        services.dynamodb.put_item(TableName=services.tables.tasks, Item={**row, "attempts": {"S": "many"}})


@pytest.fixture
def section(dynamodb_endpoint: str, redis_url: str, table_prefix: str) -> dict[str, Any]:
    """A configuration whose queue files are in a bucket."""
    return {
        "dynamodb_endpoint": dynamodb_endpoint,
        "redis_url": redis_url,
        "queue_bucket": BUCKET,
        "aws_region": "eu-west-1",
        "retry_backoff": 0,
        "max_attempts": 2,
        "settle_s": 0,
        "rows_to_process": 2,
        "job_schema": {"chunkable_attrs": ["page"]},
        "labourers": {
            LABOURER: {"max_simultaneous_invocations": 50},
            LINED: {"max_simultaneous_invocations": 1},
            FELT: {"health_metrics": {"database": METRIC}},
            ASSISTED: {"close_through": "assistant"},
        },
        "task_config": table_names(table_prefix),
        "sns_config": {"recipient": TOPIC},
        "stored_config": {"source": "dynamo", "table_name": f"{table_prefix}config"},
        "meta_handler_config": {"dynamo_db_config": {"table_name": f"{table_prefix}meta"}},
    }


@pytest.fixture
def cast(section: dict[str, Any]) -> Iterator[Cast]:
    """All roles, before the first call; the tables and the bucket are made."""
    with mock_aws():
        boto3.setup_default_session()
        made = Cast(section)
        yield made
        made.app.close()
        for services in made.cast.values():
            services.redis.close()
        boto3.setup_default_session()


def a_whole_life(cast: Cast) -> None:
    """Have jobs written, run, failed, lost, tried again, closed, refused and taken over."""
    configuration_and_health_are_read(cast)
    schedulers_die(cast)
    jobs_are_refused(cast)
    a_worker_goes_on(cast)
    tasks_end_in_every_way(cast)
    rows_are_broken(cast)
    workers_are_far_away(cast)
    people_are_told(cast)
    operators_look(cast)
    for services in cast.cast.values():
        services.meta_handler.flush()


def schedulers_die(cast: Cast) -> None:
    """A job whose first Scheduler died, whose second one had no time, and whose queue file was lost."""
    pages = {"pages": list("abcdefghij"), "isolate_pages": True}
    cast.submit("plain", **pages)
    cast.submit("plain", **pages)
    table = cast.role("scheduler").job_table
    dead = table.claim_chunking("plain", "dead", clock.now() - 100, 1, ended_before=None)
    assert dead is not None
    table.renew_chunking("plain", "dead", clock.now() - 90, 1)
    left_behind = file_name("tasks_queue.txt", "plain", dead.generation, 0)
    cast.role("somebody").s3.put_object(Bucket=BUCKET, Key=f"sosw/scheduler/{left_behind}")
    cast.schedule("plain", should_stop=lambda: True)
    lost = file_name("tasks_queue.txt", "plain", dead.generation + 1, 0)
    cast.role("somebody").s3.delete_object(Bucket=BUCKET, Key=f"sosw/scheduler/{lost}")
    cast.schedule("plain")
    assert table.get("plain").state is JobState.SCHEDULED
    for _ in range(2):
        cast.submit("by message", role="scheduler", pages=["a"])
    cast.schedule("by message")


def jobs_are_refused(cast: Cast) -> None:
    """A job that cannot become tasks, submitted again; one that nobody goes on with."""
    for period in ("last_blue_moon", "yesterday"):
        cast.submit("refused", pages=["a"], period=period)
        with contextlib.suppress(InvalidJob):
            cast.schedule("refused")
    cast.submit("forgotten", pages=["a"])
    cast.schedule("forgotten", should_stop=lambda: True)
    scavenger = cast.role("scavenger")
    scavenger.scheduler.resume(scavenger.job_table.record("forgotten"), clock.now() + 1000)
    cast.schedule("forgotten")


def configuration_and_health_are_read(cast: Cast) -> None:
    """What workers read before their first run, and orchestrators before they hand out."""
    key = [{"AttributeName": name, "KeyType": kind} for name, kind in (("env", "HASH"), ("config_name", "RANGE"))]
    cast.role("somebody").dynamodb.create_table(
        TableName=cast.settings.stored_config.table_name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": one["AttributeName"], "AttributeType": "S"} for one in key],
        KeySchema=key,
    )
    for role in ("worker", "worker-through-assistant"):
        stored = cast.role(role).stored_config
        assert stored is not None
        assert stored.get(f"{LABOURER}_config") == {}
    orchestrator, calls = cast.role("orchestrator"), cast.recorders["orchestrator"].calls
    cloudwatch = orchestrator.metric_sources["cloudwatch"]
    assert isinstance(cloudwatch, CloudWatch)
    (metric,) = cast.settings.health_metrics[FELT]
    cast.recorders["orchestrator"].watch(cloudwatch._client(metric.timeout_s))
    orchestrator.ecology.refresh([FELT])  # in a thread
    end = time.monotonic() + 20
    while not any(action.startswith("cloudwatch:") for action, _ in calls):
        assert time.monotonic() < end
        time.sleep(0.01)


def a_worker_goes_on(cast: Cast) -> None:
    """With the next task in its slot, in one call."""
    cast.submit("in a line", lambda_name=LINED, pages=["a", "b"], isolate_pages=True)
    cast.schedule("in a line")
    cast.role("orchestrator").orchestrator.dispatch(LINED, from_head=True)
    worker = cast.role("worker").attempts
    first = worker.begin(cast.hints.pop())
    assert first is not None
    second = worker.go_on(first.attempt, first.outcome(), lambda _: None)
    assert second is not None
    worker.complete(second.attempt, second.outcome())
    cast.role("scavenger").scavenger.sweep(LINED, thorough=True)


def tasks_end_in_every_way(cast: Cast) -> None:
    """Completed and failed by the worker and by the assistant; buried; lost; each until its job is closed."""
    worker, assistant = cast.role("worker").attempts, cast.role("worker-assistant").worker_assistant
    completed, failed, buried, lost, *others = cast.begin()
    for name, spawner, parent in (("a", "worker", failed), ("b", "worker-assistant", lost)):
        sibling = Sibling(f"sibling {name}", "{}", 1)
        assert cast.role(spawner).siblings.spawn(parent.attempt, parent.task.job_id, sibling)
    worker.complete(completed.attempt, Outcome(stats={"pages": 1}))
    worker.complete(completed.attempt, Outcome())
    worker.fail(failed.attempt, RetryLater(0.0))
    worker.bury(buried.attempt, "cannot be read")
    worker.free(lost.attempt)
    for run, action in zip(others, itertools.cycle(["mark_task_as_completed", "mark_task_as_failed"]), strict=False):
        assistant.handle(closing_message(action, run.attempt, Outcome()))
    cast.sweep()
    cast.sweep()
    again = cast.begin()
    assert failed.task.task_id in {run.task.task_id for run in again}
    for number, run in enumerate(again):
        message = closing_message("mark_task_as_failed", run.attempt, Outcome())
        if number % 2:
            worker.fail(run.attempt, "again")
        else:
            assistant.handle(message)
    cast.role("redis").redis.flushall()
    cast.role("orchestrator").orchestrator.tend([LABOURER])
    for _ in range(20):
        for run in cast.begin():
            worker.complete(run.attempt, Outcome())
        cast.sweep()
    assert cast.role("operator").job_table.get("plain").state is JobState.COMPLETED_WITH_DEAD


def workers_are_far_away(cast: Cast) -> None:
    """A labourer whose tasks are claimed for it and closed for it; it posts an event of its own.

    The first attempt is lost: the scavenger ends it, and claims the next task for the slot that is free.
    """
    cast.submit("far", lambda_name=ASSISTED, pages=list("abc"), isolate_pages=True)
    cast.schedule("far")
    (lost,) = cast.begin_assisted()
    cast.role("worker-through-assistant").assisted.free(lost.attempt)
    cast.sweep()
    assert cast.hints
    for _ in range(2):
        (run,) = cast.begin_assisted()
        cast.role("worker-through-assistant").meta_handler.post(run.task.task_id, "thinking")
        message = closing_message("mark_task_as_completed", run.attempt, Outcome())
        cast.role("worker-assistant").worker_assistant.handle(message)
    cast.sweep()


def rows_are_broken(cast: Cast) -> None:
    """Rows that nobody can read are set aside, by whoever meets them."""
    cast.break_rows(greenfield=attributes.number(clock.now()), created_at=attributes.number(clock.now()))
    cast.begin()
    delta = cast.settings.task_config.greenfield_invocation_delta
    cast.break_rows(greenfield=attributes.number(clock.now() + delta), created_at=attributes.number(clock.now()))
    cast.sweep()


def people_are_told(cast: Cast) -> None:
    """The topic gets a notice of the tasks that died."""
    boto3.client("sns", region_name="eu-west-1").create_topic(Name="dead_tasks")
    told = cast.role("scavenger").notices.tell()
    assert told["sns"] > 0


def operators_look(cast: Cast) -> None:
    """All that the commands status, job and task read."""
    cast.submit("open", pages=list("abc"), isolate_pages=True)
    cast.schedule("open", should_stop=lambda: True)
    services = cast.role("operator")
    assert "open" in [job.job_id for job in services.overview.system(10).jobs]
    services.overview.job("plain")
    services.meta_table.history("nobody")
    with pytest.raises(TaskNotFound):
        services.overview.task("nobody")


@pytest.fixture
def after(cast: Cast) -> Cast:
    """All roles after a whole life."""
    a_whole_life(cast)
    return cast


def test_each_policy_allows_what_its_role_calls_and_nothing_else(after: Cast) -> None:
    """Action by action, table by table and index by index; what no call names has a stated reason."""
    missing, unused = {}, {}
    for role in ROLES:
        called, allowed = after.recorders[role].calls, granted(role, after.resources)
        reasons = {(grant.on, action) for grant in ROLES[role] for action in grant.actions if grant.reason}
        explained = {(action, name) for on, action in reasons for name in names_of(after.resources, on)}
        missing[role], unused[role] = called - allowed, allowed - called - explained
    assert {role: calls for role, calls in missing.items() if calls} == {}
    assert {role: calls for role, calls in unused.items() if calls} == {}


def names_of(resources: Mapping[str, Resource], on: str) -> list[str]:
    """Return how the recorder calls a resource."""
    found = resources.get(on)
    return [name_of(arn) for arn in found.arns] if found else []


def test_every_call_in_the_source_is_made_in_this_life(after: Cast) -> None:
    """A call that is added to a store has to show up here, so that a policy cannot lag behind the code."""
    made = {xform_name(name) for recorder in after.recorders.values() for name in recorder.operations}
    assert {name for name in calls_in_source() if name not in made} == set()


def calls_in_source() -> Iterator[str]:
    """Yield the operations of DynamoDB and S3 that our code calls on a client; labourers' own tables are theirs."""
    operations = {
        xform_name(name)
        for service in ("dynamodb", "s3")
        for name in boto3.client(service, region_name="eu-west-1").meta.service_model.operation_names
    }
    for path in Path(sosw_celery.__file__).parent.rglob("*.py"):
        if path.name in ("dynamo_client.py", "config_source.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            if is_call and node.func.attr in operations and CLIENT.search(ast.unparse(node.func.value)):
                yield node.func.attr
