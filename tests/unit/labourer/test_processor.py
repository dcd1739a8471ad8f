"""Processors: configuration, clients, stats."""

from __future__ import annotations

from typing import Any

import pytest

from sosw_celery import Processor
from sosw_celery.errors import ConfigError
from sosw_celery.labourer.processor import underscored
from sosw_celery.sosw_compat.dynamo_client import DynamoDbClient

TABLE = {"table_name": "cats", "row_mapper": {"name": "S"}, "required_fields": ["name"]}


class Inner(Processor):
    """A client that is a processor itself."""

    DEFAULT_CONFIG = {"colour": "grey"}


class ThingClient:
    """A client of a user's, which keeps what it was made with."""

    def __init__(self, config: Any = None) -> None:
        self.config = config


HERE = __name__


# ---- configuration


def test_custom_config_lies_over_the_stored_one_and_that_over_the_default() -> None:
    """Dicts are joined, lists replaced, and the class's DEFAULT_CONFIG stays as it is."""

    class Report(Processor):
        """With an entry of its own in the stored configuration."""

        name = "report"
        DEFAULT_CONFIG = {"a": {"x": 1, "y": 1, "z": 1}, "list": [1, 2]}

        @staticmethod
        def get_config(name: str) -> Any:
            """Return what is stored."""
            return {"a": {"y": 2, "z": 2}, "list": [3]} if name == "report_config" else None

    report = Report({"a": {"z": 3}})
    assert report.config == {"a": {"x": 1, "y": 2, "z": 3}, "list": [3]}
    report.config["list"].append(4)
    assert Report.DEFAULT_CONFIG["list"] == [1, 2]
    assert (report._c("a.z"), report._c("a.none", 7), report._c("list.x")) == (3, 7, None)


def test_what_changed_in_the_store_is_taken_over_with_new_clients() -> None:
    """Only on request, by the processors among its clients too; where nothing changed, clients stay."""
    stored: dict[str, Any] = {"inner_config": {"colour": "blue"}}

    class Report(Processor):
        """With a client whose configuration is stored."""

        name = "report"
        DEFAULT_CONFIG = {"init_clients": [f"{HERE}:Inner"]}

        @staticmethod
        def get_config(name: str) -> Any:
            """Return what is stored."""
            return dict(stored)

    report: Any = Report()
    inner = report.inner_client
    assert inner.config == {"colour": "blue"}
    assert report.refresh_config() is False
    assert report.inner_client is inner
    stored["inner_config"] = {"colour": "red"}
    assert inner.config == {"colour": "blue"}
    assert report.refresh_config() is True
    assert report.inner_client.config == {"colour": "red"}


def test_a_stored_configuration_that_is_no_dict_is_refused() -> None:
    """The error names the entry."""

    class Report(Processor):
        """With a wrong entry."""

        name = "report"

        @staticmethod
        def get_config(name: str) -> Any:
            """Return a text."""
            return "text"

    with pytest.raises(ConfigError, match=r"stored_config\.report_config: expected a dict"):
        Report()


def test_a_processor_without_a_name_has_no_stored_configuration() -> None:
    """There is no entry to look for, and none is stored where no source is configured."""
    assert Processor({"a": 1}, test=True).config == {"a": 1}
    assert Processor(test=True).test is True
    assert Processor.get_config("any") == {}


# ---- clients


@pytest.mark.parametrize(
    ("name", "attribute", "service"),
    [
        ("s3", "s3_client", "s3"),
        ("S3", "s3_client", "s3"),
        ("Sns", "sns_client", "sns"),
        ("SQS", "sqs_client", "sqs"),
        ("lambda", "lambda_client", "lambda"),
        ("Lambda", "lambda_client", "lambda"),
        ("dynamodb", "dynamodb_client", "dynamodb"),
        ("StepFunctions", "step_functions_client", "stepfunctions"),
        ("cloudwatch", "cloudwatch_client", "cloudwatch"),
    ],
)
def test_services_of_aws_become_clients_of_boto3(name: str, attribute: str, service: str) -> None:
    """In any case; the configuration may say where the service is."""
    key = f"{attribute.removesuffix('_client')}_config"
    processor = Processor({"init_clients": [name], key: {"region_name": "us-west-2", "other": 1}})
    client = getattr(processor, attribute)
    try:
        assert client.meta.service_model.service_name == service if service != "stepfunctions" else "states"
        assert client.meta.region_name == "us-west-2"
    finally:
        client.close()


@pytest.mark.parametrize("name", ["dynamo_db", "DynamoDb", "DynamoDB"])
def test_dynamo_db_is_the_client_for_rows(name: str) -> None:
    """With its configuration, which is asked for."""
    client = Processor({"init_clients": [name], "dynamo_db_config": TABLE}).dynamo_db_client  # type: ignore[attr-defined]
    assert isinstance(client, DynamoDbClient)
    assert client.row_mapper == {"name": "S"}
    with pytest.raises(ConfigError, match="dynamo_db_config: expected a dict with row_mapper"):
        Processor({"init_clients": [name]})


def test_a_class_of_ones_own_becomes_a_client() -> None:
    """Called with its configuration, and named after it."""
    processor: Any = Processor({"init_clients": [f"{HERE}:ThingClient"], "thing_config": {"a": 1}})
    assert processor.thing_client.config == {"a": 1}
    assert Processor({"init_clients": [f"{HERE}:ThingClient"]}).thing_client.config is None  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "problem"),
    [("s33", "did you mean 's3'"), ("no_module:X", "no_module"), (f"{HERE}:Absent", "Absent")],
)
def test_a_client_that_there_is_not_is_refused(name: str, problem: str) -> None:
    """With a suggestion where there is one."""
    with pytest.raises(ConfigError, match=problem):
        Processor({"init_clients": [name]})


def test_further_tables_have_clients_by_their_prefix() -> None:
    """Made when they are first asked for; an unknown prefix is told."""
    processor = Processor({"project_a_dynamo_db_config": TABLE})
    client = processor.get_ddbc("project_a")
    assert client is processor.get_ddbc("project_a")
    assert client is processor.project_a_dynamo_db_client  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"expected one of the prefixes \['project_a'\], got 'project_b'"):
        processor.get_ddbc("project_b")


def test_names_become_attributes_as_in_sosw() -> None:
    """Words are separated where a capital begins one."""
    names = ["S3", "SNS", "DynamoDb", "DynamoDB", "StepFunctions", "EC2", "IAMRoles", "dynamo_db"]
    expected = ["s3", "sns", "dynamo_db", "dynamo_db", "step_functions", "ec2", "iam_roles", "dynamo_db"]
    assert [underscored(name) for name in names] == expected


# ---- stats


def test_a_call_is_counted_and_its_result_forgotten_unless_it_is_to_be_kept() -> None:
    """As in sosw, where the body does its work before it."""
    processor = Processor()
    processor.result["found"] += 1
    processor({}, reset_result=False)
    assert processor.result == {"found": 1}
    processor({}, False)
    assert processor.result == {"found": 1}
    processor({})
    assert processor.result == {}
    assert processor.get_stats() == {"processor_calls": 3}


def test_stats_include_those_of_clients_at_any_depth() -> None:
    """The own ones win; clients without stats, with stats that are none, or named twice do no harm."""
    processor: Any = Processor({"init_clients": [f"{HERE}:Inner", f"{HERE}:ThingClient"]})
    processor.inner_client.deep_client = DynamoDbClient({})
    processor.inner_client.deep_client.stats["dynamo_put_queries"] = 2
    processor.inner_client.stats |= {"inner": 1, "both": 1}
    processor.same_client = processor.inner_client
    processor.odd_client = type("Odd", (), {"get_stats": staticmethod(lambda: "none")})()
    processor.stats["both"] = 9
    assert processor.get_stats() == {"dynamo_put_queries": 2, "inner": 1, "both": 9}
    assert processor.get_stats(recursive=False) == {"both": 9}
    processor.reset_stats()
    assert processor.inner_client.deep_client.get_stats() == {}


def test_clients_of_a_class_may_come_late() -> None:
    """After others were looked for."""

    class Late(Processor):
        """With a client that somebody sets on the class."""

    processor: Any = Late()
    assert processor.get_stats() == {}
    Late.late_client = DynamoDbClient({})  # type: ignore[attr-defined]
    processor.late_client.stats["late"] = 1
    assert processor.get_stats() == {"late": 1}


def test_a_reset_keeps_what_is_to_last() -> None:
    """Named stats and totals stay, numbers are added to their totals, texts go."""
    processor = Processor({"lifetime_stats_params": ["since"]})
    for _ in range(2):
        processor.stats |= {"since": "monday", "images": 2, "name": "x"}
        processor.reset_stats()
    assert processor.get_stats() == {"since": "monday", "total_images": 4}
    assert processor.stats["new"] == 0


def test_to_die_is_an_error_with_the_message() -> None:
    """A worker's attempt fails by it."""
    with pytest.raises(RuntimeError, match="no more"):
        Processor().die("no more")
