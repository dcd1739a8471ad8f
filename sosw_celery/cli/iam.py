"""`sosw-celery iam`: IAM policies with the least privileges, for the tables and the bucket of the configuration."""

from __future__ import annotations

import os
from dataclasses import fields
from urllib.parse import urlsplit

import click

from sosw_celery.cli import Command
from sosw_celery.cli.aws.policies import ABOUT, ROLES, Resource, partition_of, policy, table_resources
from sosw_celery.cli.output import print_json
from sosw_celery.cli.runtime import load_services
from sosw_celery.config.health import CLOUDWATCH
from sosw_celery.config.settings import Settings
from sosw_celery.stores.dynamodb.tables import Tables, definitions

__all__ = ["iam", "resources_of"]


@click.command(
    cls=Command,
    examples=[
        "sosw-celery iam",
        "sosw-celery iam worker --region eu-west-1 --account 123456789012 > worker-policy.json",
    ],
)
@click.argument("role", required=False, type=click.Choice(list(ROLES)), metavar="[ROLE]")
@click.option("--region", help="Region of the tables. Without it: sosw.aws_region, AWS_DEFAULT_REGION, or any.")
@click.option("--account", default="*", help="Id of the AWS account. Without it: any.")
def iam(role: str | None, region: str | None, account: str) -> None:
    """Print the IAM policy of a role as JSON, or those of all roles by their names. Needs no server.

    \b
    submitter                 calls scheduler.delay(job); beat
    scheduler                 workers of the queue sosw_scheduler
    orchestrator              workers of the queue sosw_orchestrator
    worker                    workers of labourers
    worker-through-assistant  those of labourers with close_through: assistant
    worker-assistant          workers of the queue sosw_worker_assistant
    scavenger                 workers of the queue sosw_scavenger
    operator                  people who look, and change nothing
    init                      whoever runs sosw-celery init

    A process that works for several queues needs the policies of all of them. Redis and the broker are no part of IAM.
    """
    settings = load_services().settings
    region = region or settings.aws_region or os.environ.get("AWS_DEFAULT_REGION") or "*"
    resources = resources_of(settings, region=region, account=account)
    if role is None:
        print_json({name: {"for": ABOUT[name], "policy": policy(name, resources)} for name in ROLES})
        return
    document = policy(role, resources)
    if not document["Statement"]:
        click.echo(f"{role}: nothing of AWS is called with this configuration, so no policy is needed", err=True)
    print_json(document)


def resources_of(settings: Settings, *, region: str, account: str) -> dict[str, Resource]:
    """Return what the configuration has of the resources that policies speak of.

    Parameters:
        region, account: `*` for any.
    """
    partition = partition_of(region)
    tables = Tables.from_settings(settings)
    roles = {getattr(tables, field.name): field.name for field in fields(tables) if isinstance(field.default, str)}
    found: dict[str, Resource] = {}
    for definition in definitions(tables):
        name = definition["TableName"]
        arn = f"arn:{partition}:dynamodb:{region}:{account}:table/{name}"
        local, of_all = definition.get("LocalSecondaryIndexes", ()), definition.get("GlobalSecondaryIndexes", ())
        found |= table_resources(roles[name], arn, [index["IndexName"] for index in (*of_all, *local)])
    if any(metric.source == CLOUDWATCH for metrics in settings.health_metrics.values() for metric in metrics):
        found["metrics"] = Resource(("*",))  # IAM knows no narrower one for metrics
    if settings.meta_handler_config is not None and settings.meta_handler_config.write_meta_to_ddb:
        found["history"] = found["meta"]
    if settings.tells_of_dead_tasks:
        found |= {"outbox": found["jobs"], "outbox.deaths": found["closed"]}
    if settings.sns_config.recipient:
        found["topic"] = Resource((settings.sns_config.recipient,))
    if functions := [labourer.arn for labourer in settings.labourers.values() if labourer.invoke == "lambda"]:
        place = f"arn:{partition}:lambda:{region}:{account}:function"
        found["functions"] = Resource(tuple(one if one.startswith("arn:") else f"{place}:{one}" for one in functions))
    return {
        **found,
        **_queue_resources(settings, partition),
        **_stored_config(settings, f"{partition}:{{}}:{region}:{account}"),
    }


def _stored_config(settings: Settings, place: str) -> dict[str, Resource]:
    """Return where labourers' configuration is stored, if it is.

    Parameters:
        place: An ARN up to the account, with `{}` for the service.
    """
    stored = settings.stored_config
    if stored.source == "dynamo":
        return {"config": Resource((f"arn:{place.format('dynamodb')}:table/{stored.table_name}",))}
    if stored.source == "ssm":
        names = f"/{stored.ssm_prefix.lstrip('/')}*_config"
        return {"parameters": Resource((f"arn:{place.format('ssm')}:parameter{names}",))}
    return {}


def _queue_resources(settings: Settings, partition: str) -> dict[str, Resource]:
    """Return the bucket of the queue files and the objects in it; nothing where they are in a directory."""
    if urlsplit(settings.queue_bucket).scheme == "file":
        return {}
    bucket = f"arn:{partition}:s3:::{settings.queue_bucket}"
    beginning = f"{settings.s3_prefix.strip('/')}/*"
    # IfExists: S3 answers 404 and not 403 to a look for an object that is gone only to who may list the bucket, and
    # such a look has no prefix.
    return {
        "queue.objects": Resource((f"{bucket}/{beginning}",)),
        "queue.bucket": Resource((bucket,), {"StringLikeIfExists": {"s3:prefix": [beginning]}}),
    }
