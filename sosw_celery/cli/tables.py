"""`sosw-celery tables`: the tables of the configuration, as code or as a list. Needs no server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from sosw_celery.cli import Command
from sosw_celery.cli.aws.table_templates import Protection, cloudformation, terraform
from sosw_celery.cli.output import json_option, print_json, print_table
from sosw_celery.cli.runtime import load_services
from sosw_celery.stores.dynamodb.tables import Tables, definitions

__all__ = ["tables"]


@click.command(
    cls=Command,
    examples=[
        "sosw-celery tables",
        "sosw-celery tables --cloudformation > sosw-tables.json",
        "sosw-celery tables --terraform > sosw-tables.tf.json",
        "sosw-celery tables --terraform --no-deletion-protection --no-point-in-time-recovery",
    ],
)
@click.option("--cloudformation", "as_cloudformation", is_flag=True, help="Print a CloudFormation template.")
@click.option("--terraform", "as_terraform", is_flag=True, help="Print Terraform in JSON, for a file NAME.tf.json.")
@click.option(
    "--point-in-time-recovery/--no-point-in-time-recovery",
    default=True,
    show_default=True,
    help="Keep each table restorable to any second of the last 35 days.",
)
@click.option(
    "--deletion-protection/--no-deletion-protection",
    default=True,
    show_default=True,
    help="Have the deletion of a table refused.",
)
@json_option
def tables(
    as_cloudformation: bool,
    as_terraform: bool,
    point_in_time_recovery: bool,
    deletion_protection: bool,
    as_json: bool,
) -> None:
    """Print the tables of the configuration: a list, or code that makes them with on-demand billing.

    They are the same that `sosw-celery init` makes; point-in-time recovery and deletion protection come on top.
    """
    if as_cloudformation and as_terraform:
        raise click.UsageError("--cloudformation or --terraform, not both")
    found = definitions(Tables.from_settings(load_services().settings))
    protection = Protection(point_in_time_recovery, deletion_protection)
    if as_cloudformation:
        print_json(cloudformation(found, protection))
    elif as_terraform:
        print_json(terraform(found, protection))
    elif as_json:
        print_json(found)
    else:
        _print_list(found)


def _print_list(found: Sequence[Mapping[str, Any]]) -> None:
    rows = []
    for table in found:
        rows.append((table["TableName"], "", _keys(table)))
        for index in (*table.get("GlobalSecondaryIndexes", ()), *table.get("LocalSecondaryIndexes", ())):
            rows.append((table["TableName"], index["IndexName"], _keys(index)))
    print_table(["table", "index", "keys"], rows)


def _keys(schema: Mapping[str, Any]) -> str:
    return ", ".join(key["AttributeName"] for key in schema["KeySchema"])
