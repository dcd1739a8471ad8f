"""IAM policies are well-formed, name what is configured, and leave out what is not."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from sosw_celery.cli.aws.policies import ABOUT, ROLES, partition_of, policy
from sosw_celery.cli.iam import resources_of
from sosw_celery.config.settings import load_settings

#: Limit of AWS for a managed policy, characters without white space.
MANAGED_POLICY = 6144

EVERYTHING: dict[str, Any] = {
    "queue_bucket": "my-bucket",
    "s3_prefix": "my/prefix/",
    "meta_handler_config": {},
    "sns_config": {"recipient": "arn:aws:sns:eu-west-1:123456789012:dead_tasks"},
    "stored_config": {"source": "ssm", "ssm_prefix": "/sosw/"},
    "labourers": {
        "thumbnail": {"invoke": "lambda", "arn": "thumbnail:prod"},
        "resize": {
            "health_metrics": {
                "cpu": {
                    "details": {"MetricName": "CPUUtilization", "Namespace": "AWS/RDS"},
                    "feelings": {4: 25},
                    "feeling_comparison_operator": "<=",
                }
            }
        },
    },
}


def resources(section: dict[str, Any], region: str = "eu-west-1") -> Any:
    """Return the resources of a configuration in some account."""
    return resources_of(load_settings(section), region=region, account="123456789012")


def allowed(role: str, section: dict[str, Any]) -> dict[str, list[str]]:
    """Return what a role may do, by ARN."""
    statements = policy(role, resources(section))["Statement"]
    found: dict[str, list[str]] = {}
    for statement in statements:
        for arn in statement["Resource"]:
            found.setdefault(arn, []).extend(statement["Action"])
    return found


@pytest.mark.parametrize("role", ROLES)
def test_a_policy_is_one_that_iam_takes(role: str) -> None:
    """Version, letters and digits in Sids that differ, actions that are spelled out, and a size that fits."""
    document = policy(role, resources(EVERYTHING))
    assert document["Version"] == "2012-10-17"
    sids = [statement["Sid"] for statement in document["Statement"]]
    assert sids
    assert len(set(sids)) == len(sids)
    assert all(re.fullmatch("[A-Za-z0-9]+", sid) for sid in sids)
    for statement in document["Statement"]:
        assert statement["Effect"] == "Allow"
        assert all(
            re.fullmatch(r"(dynamodb|s3|ssm|cloudwatch|sns|lambda):[A-Za-z]+", action) for action in statement["Action"]
        )
        assert statement["Resource"]
    assert len(json.dumps(document, separators=(",", ":"))) < MANAGED_POLICY
    assert ABOUT[role]


def test_only_what_has_no_arn_is_allowed_everywhere() -> None:
    """Metrics are the one thing that IAM cannot narrow."""
    for role in ROLES:
        for arn, actions in allowed(role, EVERYTHING).items():
            assert (arn == "*") == (actions == ["cloudwatch:GetMetricStatistics"])


def test_names_are_those_of_the_configuration() -> None:
    """Tables, indexes, bucket, prefix, parameters, topic."""
    section = {**EVERYTHING, "task_config": {"dynamo_db_config": {"table_name": "mine", "index_greenfield": "head"}}}
    assert "arn:aws:dynamodb:eu-west-1:123456789012:table/mine/index/head" in allowed("orchestrator", section)
    scheduler = allowed("scheduler", section)
    assert "arn:aws:s3:::my-bucket/my/prefix/*" in scheduler
    assert "arn:aws:s3:::my-bucket" in scheduler
    assert allowed("scavenger", section)["arn:aws:sns:eu-west-1:123456789012:dead_tasks"] == ["sns:Publish"]
    assert "arn:aws:ssm:eu-west-1:123456789012:parameter/sosw/*_config" in allowed("worker", section)
    function = "arn:aws:lambda:eu-west-1:123456789012:function:thumbnail:prod"
    assert allowed("worker", section)[function] == ["lambda:InvokeFunction"]


def test_the_bucket_is_listed_under_the_prefix() -> None:
    """A list of another prefix is refused."""
    (statement,) = [one for one in policy("scheduler", resources(EVERYTHING))["Statement"] if "Condition" in one]
    assert statement["Action"] == ["s3:ListBucket"]
    assert statement["Condition"] == {"StringLikeIfExists": {"s3:prefix": ["my/prefix/*"]}}


def test_what_is_not_configured_is_not_allowed() -> None:
    """No bucket, no history, no stored configuration, no metrics: no action about them."""
    services = {action.partition(":")[0] for role in ROLES for found in allowed(role, {}).values() for action in found}
    assert services == {"dynamodb"}
    assert not [role for role in ROLES if role != "init" for arn in allowed(role, {}) if arn.endswith("_meta")]
    assert policy("worker-through-assistant", resources({}))["Statement"] == []
    logged = {"meta_handler_config": {"write_meta_to_ddb": False}}
    assert allowed("worker", logged) == allowed("worker", {})


def test_operators_change_nothing() -> None:
    """Only reads."""
    actions = {action for found in allowed("operator", EVERYTHING).values() for action in found}
    assert actions <= {"dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query"}


@pytest.mark.parametrize(
    ("region", "partition"),
    [("eu-west-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov"), ("*", "aws")],
)
def test_arns_begin_with_the_partition_of_the_region(region: str, partition: str) -> None:
    """China and the government's regions have partitions of their own."""
    assert partition_of(region) == partition
    statements = policy("scheduler", resources(EVERYTHING, region))["Statement"]
    assert all(arn.startswith(f"arn:{partition}:") for one in statements for arn in one["Resource"])
