"""The tables as code say what `init` makes, attribute by attribute."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from sosw_celery.cli.aws.table_templates import Protection, cloudformation, terraform
from sosw_celery.config.settings import load_settings
from sosw_celery.stores.dynamodb.tables import Tables, create_tables, definitions

RENAMED = {
    "task_config": {
        "dynamo_db_config": {
            "table_name": "my.tasks",
            "index_greenfield": "by-greenfield",
            "field_names": {"task_id": "id", "greenfield": "position", "closed_at": "ended"},
        },
        "sosw_closed_tasks_table": "my-tasks",
        "sosw_retry_tasks_table": "0_retry",
        "sosw_jobs_table": "my_tasks",
    }
}
PROTECTIONS = [Protection(), Protection(point_in_time_recovery=False, deletion=False)]

#: What DynamoDB adds to what was asked for, different for each table that is made.
OWN_OF_EACH = (
    "CreationDateTime",
    "TableArn",
    "TableId",
    "DeletionProtectionEnabled",
    "IndexArn",
)


@pytest.fixture(params=[{}, RENAMED], ids=["sosw's names", "other names"])
def tables(request: pytest.FixtureRequest) -> Tables:
    """The tables of a configuration."""
    return Tables.from_settings(load_settings(request.param))


@pytest.fixture(params=PROTECTIONS, ids=["protected", "not protected"])
def protection(request: pytest.FixtureRequest) -> Protection:
    """What guards the tables."""
    return request.param  # type: ignore[no-any-return]


def described(client: Any, name: str) -> Any:
    """Return a table as DynamoDB describes it, without what is different for each; sets in one order."""
    return _comparable(client.describe_table(TableName=name)["Table"])


def _comparable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _comparable(inner) for key, inner in sorted(value.items()) if key not in OWN_OF_EACH}
    return sorted(map(_comparable, value), key=str) if isinstance(value, list) else value


@mock_aws
def test_a_stack_of_the_template_has_the_tables_that_init_makes(tables: Tables, protection: Protection) -> None:
    """Two regions: in one the stack, in the other `init`; the tables are described alike."""
    template = json.dumps(cloudformation(definitions(tables), protection))
    boto3.client("cloudformation", region_name="eu-west-1").create_stack(StackName="sosw", TemplateBody=template)
    by_stack = boto3.client("dynamodb", region_name="eu-west-1")
    by_init = boto3.client("dynamodb", region_name="eu-central-1")
    names = [definition["TableName"] for definition in definitions(tables)]
    assert sorted(create_tables(by_init, tables)) == sorted(by_stack.list_tables()["TableNames"]) == sorted(names)
    for name in names:
        assert described(by_stack, name) == described(by_init, name)
        table = by_stack.describe_table(TableName=name)["Table"]
        assert table["DeletionProtectionEnabled"] is protection.deletion
        assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"


def test_cfn_lint_has_nothing_to_say(tables: Tables, protection: Protection, tmp_path: Path) -> None:
    """Errors, warnings and hints alike."""
    path = tmp_path / "template.json"
    path.write_text(json.dumps(cloudformation(definitions(tables), protection)))
    done = subprocess.run(
        [sys.executable, "-c", "from cfnlint.runner import main; main()", "--include-checks", "I", "-t", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("", 0), done.stderr


@pytest.mark.parametrize("shape", [cloudformation, terraform])
def test_each_table_has_a_name_of_its_own(shape: Callable[..., Any]) -> None:
    """`my.tasks`, `my-tasks` and `my_tasks` are three tables, and names are such as the tools take them."""
    made = shape(definitions(Tables.from_settings(load_settings(RENAMED))), Protection())
    names = list(made.get("Resources") or made["resource"]["aws_dynamodb_table"])
    assert len(names) == len(definitions(Tables()))
    pattern = "[A-Za-z0-9]+" if shape is cloudformation else "[A-Za-z_][A-Za-z0-9_-]*"
    assert all(re.fullmatch(pattern, name) for name in names)


def test_terraform_says_what_the_definitions_say(tables: Tables, protection: Protection) -> None:
    """Each resource, read back as arguments of CreateTable, is the definition; it survives JSON."""
    made = json.loads(json.dumps(terraform(definitions(tables), protection)))
    resources = list(made["resource"]["aws_dynamodb_table"].values())
    assert [arguments_of(resource) for resource in resources] == [_sorted(one) for one in definitions(tables)]
    for resource in resources:
        assert resource.pop("point_in_time_recovery") == {"enabled": protection.point_in_time_recovery}
        assert resource.pop("deletion_protection_enabled") is protection.deletion
        assert resource.keys() <= {
            "name",
            "billing_mode",
            "hash_key",
            "range_key",
            "attribute",
            "global_secondary_index",
            "local_secondary_index",
        }


def arguments_of(resource: Mapping[str, Any]) -> dict[str, Any]:
    """Return a Terraform resource as the arguments of CreateTable."""
    indexes = {
        "GlobalSecondaryIndexes": resource.get("global_secondary_index", ()),
        "LocalSecondaryIndexes": [
            {**index, "hash_key": resource["hash_key"]} for index in resource.get("local_secondary_index", ())
        ],
    }
    return {
        "TableName": resource["name"],
        "BillingMode": resource["billing_mode"],
        "AttributeDefinitions": sorted(
            ({"AttributeName": one["name"], "AttributeType": one["type"]} for one in resource["attribute"]), key=str
        ),
        "KeySchema": _keys(resource),
        **{
            kind: [
                {
                    "IndexName": index["name"],
                    "KeySchema": _keys(index),
                    "Projection": {"ProjectionType": index["projection_type"]},
                }
                for index in found
            ]
            for kind, found in indexes.items()
            if found
        },
    }


def _keys(resource: Mapping[str, Any]) -> list[dict[str, str]]:
    kinds = {"hash_key": "HASH", "range_key": "RANGE"}
    return [{"AttributeName": resource[key], "KeyType": kind} for key, kind in kinds.items() if key in resource]


def _sorted(definition: Mapping[str, Any]) -> dict[str, Any]:
    return {**definition, "AttributeDefinitions": sorted(definition["AttributeDefinitions"], key=str)}


def test_projected_attributes_are_kept() -> None:
    """An index that has some of the attributes says which."""
    index = {
        "IndexName": "some",
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["a"]},
    }
    definition = {**definitions(Tables())[0], "GlobalSecondaryIndexes": [index]}
    (resource,) = terraform([definition], Protection())["resource"]["aws_dynamodb_table"].values()
    assert resource["global_secondary_index"][0]["non_key_attributes"] == ["a"]


def test_an_argument_that_no_template_says_is_not_lost_silently() -> None:
    """Whoever adds one to the definitions learns it here."""
    with pytest.raises(ValueError, match="no template can say StreamSpecification yet"):
        terraform([{**definitions(Tables())[0], "StreamSpecification": {}}], Protection())
