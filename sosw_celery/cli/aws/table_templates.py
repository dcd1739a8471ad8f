"""The tables as code: a CloudFormation template and a Terraform configuration, both as JSON.

Made from the arguments of CreateTable that `sosw-celery init` sends, so that the three can only say the same. Beyond
those: point-in-time recovery and deletion protection, since the tables are the truth about every task.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Protection", "cloudformation", "terraform"]

Definition = Mapping[str, Any]

#: Arguments of CreateTable that can be said in a template; another one must not get lost.
_KNOWN = frozenset(
    {
        "TableName",
        "BillingMode",
        "AttributeDefinitions",
        "KeySchema",
        "GlobalSecondaryIndexes",
        "LocalSecondaryIndexes",
    }
)


@dataclass(frozen=True)
class Protection:
    """What guards the tables against people.

    Parameters:
        point_in_time_recovery: Whether a table can be brought back as it was at any second of the last 35 days.
        deletion: Whether deleting a table is refused until the protection is taken away.
    """

    point_in_time_recovery: bool = True
    deletion: bool = True


def cloudformation(definitions: Iterable[Definition], protection: Protection) -> dict[str, Any]:
    """Return a CloudFormation template that makes the tables. Deleting the stack leaves them where they are.

    Parameters:
        definitions: The arguments of CreateTable for each table.
    """
    checked = [_checked(definition) for definition in definitions]
    names = _logical_names(definition["TableName"] for definition in checked)
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "The tables of sosw-celery, with on-demand billing.",
        "Resources": {
            name: _cloudformation_table(definition, protection) for name, definition in zip(names, checked, strict=True)
        },
    }


def terraform(definitions: Iterable[Definition], protection: Protection) -> dict[str, Any]:
    """Return a Terraform configuration in JSON syntax, for a file `NAME.tf.json`, that makes the tables.

    It needs the provider `hashicorp/aws`; region and credentials are those of the provider.

    Parameters:
        definitions: The arguments of CreateTable for each table.
    """
    checked = [_checked(definition) for definition in definitions]
    names = _distinct(_terraform_name(definition["TableName"]) for definition in checked)
    tables = {name: _terraform_table(item, protection) for name, item in zip(names, checked, strict=True)}
    return {"resource": {"aws_dynamodb_table": tables}}


def _checked(definition: Definition) -> Definition:
    unknown = sorted(definition.keys() - _KNOWN)
    if unknown:
        raise ValueError(f"table {definition['TableName']}: no template can say {', '.join(unknown)} yet")
    return definition


def _cloudformation_table(definition: Definition, protection: Protection) -> dict[str, Any]:
    return {
        "Type": "AWS::DynamoDB::Table",
        "DeletionPolicy": "Retain",
        "UpdateReplacePolicy": "Retain",
        "Properties": {
            **definition,
            "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": protection.point_in_time_recovery},
            "DeletionProtectionEnabled": protection.deletion,
        },
    }


def _terraform_table(definition: Definition, protection: Protection) -> dict[str, Any]:
    return {
        "name": definition["TableName"],
        "billing_mode": definition["BillingMode"],
        **_terraform_keys(definition["KeySchema"]),
        "attribute": [
            {"name": attribute["AttributeName"], "type": attribute["AttributeType"]}
            for attribute in definition["AttributeDefinitions"]
        ],
        **_terraform_indexes("global_secondary_index", definition.get("GlobalSecondaryIndexes", ())),
        **_terraform_indexes("local_secondary_index", definition.get("LocalSecondaryIndexes", ())),
        "point_in_time_recovery": {"enabled": protection.point_in_time_recovery},
        "deletion_protection_enabled": protection.deletion,
    }


def _terraform_keys(key_schema: Sequence[Mapping[str, str]]) -> dict[str, str]:
    names = {"HASH": "hash_key", "RANGE": "range_key"}
    return {names[key["KeyType"]]: key["AttributeName"] for key in key_schema}


def _terraform_indexes(block: str, indexes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found = []
    for index in indexes:
        keys = _terraform_keys(index["KeySchema"])
        if block == "local_secondary_index":  # its hash key is the table's
            del keys["hash_key"]
        projection = index["Projection"]
        attributes = projection.get("NonKeyAttributes")
        more = {"non_key_attributes": list(attributes)} if attributes else {}
        found.append({"name": index["IndexName"], **keys, "projection_type": projection["ProjectionType"], **more})
    return {block: found} if found else {}


def _logical_names(table_names: Iterable[str]) -> list[str]:
    """Return names as CloudFormation takes them, of letters and digits: `sosw_closed_tasks` is SoswClosedTasks."""
    words = (re.findall("[A-Za-z0-9]+", name) for name in table_names)
    return _distinct(f"{''.join(word[:1].upper() + word[1:] for word in parts)}Table" for parts in words)


def _terraform_name(table_name: str) -> str:
    name = re.sub("[^A-Za-z0-9_-]", "_", table_name)
    return name if re.match("[A-Za-z_]", name) else f"_{name}"


def _distinct(names: Iterable[str]) -> list[str]:
    """Return the names, those that stand there already with a number behind."""
    found: list[str] = []
    for name in names:
        candidate, number = name, 1
        while candidate in found:
            number += 1
            candidate = f"{name}{number}"
        found.append(candidate)
    return found
