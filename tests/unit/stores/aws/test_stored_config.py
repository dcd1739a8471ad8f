"""Stored configurations: where they are read, and when again."""

from __future__ import annotations

import json

import boto3
import moto
import pytest
from botocore.stub import Stubber

from sosw_celery.errors import ConfigError, StoreError, StoreUnavailable
from sosw_celery.stores.aws.stored_config import CachedConfig, DynamoConfig, SsmConfig


class Source:
    """Entries that a test sets, and how often they were read."""

    def __init__(self, text: str | None = None) -> None:
        self.text = text
        self.error: Exception | None = None
        self.reads = 0

    def read(self, name: str) -> str | None:
        """Return the text, or raise the error."""
        self.reads += 1
        if self.error is not None:
            raise self.error
        return self.text


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        """Return what the test has set."""
        return self.now


def test_an_entry_is_read_again_when_it_is_old() -> None:
    """Once per `refresh_s`; an unchanged entry stays the same object."""
    source, clock = Source('{"a": 1}'), Clock()
    cached = CachedConfig(source, 60, clock)
    first = cached.get("x")
    clock.now = 59
    assert cached.get("x") is first
    assert source.reads == 1
    clock.now = 60
    assert cached.get("x") is first
    source.text, clock.now = '{"a": 2}', 120
    assert cached.get("x") == {"a": 2}
    assert source.reads == 3


@pytest.mark.parametrize("problem", [StoreUnavailable("ssm", "read"), StoreError("ssm", "read", "AccessDenied")])
def test_a_source_that_fails_leaves_the_last_entry_in_force(problem: StoreError) -> None:
    """And is asked again after `refresh_s`; without a last entry its error is raised."""
    source, clock = Source('{"a": 1}'), Clock()
    cached = CachedConfig(source, 60, clock)
    cached.get("x")
    source.error, clock.now = problem, 60
    assert cached.get("x") == {"a": 1}
    assert cached.get("x") == {"a": 1}
    assert source.reads == 2
    with pytest.raises(type(problem)):
        cached.get("never read")


@pytest.mark.parametrize("text", ["no JSON", "[1]", "5"])
def test_an_entry_has_to_be_an_object(text: str) -> None:
    """Anything else is a wrong setting, or not taken over where a good one is known."""
    source, clock = Source(text), Clock()
    with pytest.raises(ConfigError, match=r"stored_config\.x: expected the JSON text of an object"):
        CachedConfig(source, 60, clock).get("x")
    source.text = None
    cached = CachedConfig(source, 60, clock)
    assert cached.get("x") == {}
    source.text, clock.now = text, 60
    assert cached.get("x") == {}


def test_a_table_like_that_of_sosw_is_read() -> None:
    """By `env` and `config_name`; a table that is not there is an error that names it."""
    with moto.mock_aws():
        client = boto3.client("dynamodb")
        client.create_table(
            TableName="config",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": "env", "AttributeType": "S"},
                {"AttributeName": "config_name", "AttributeType": "S"},
            ],
            KeySchema=[
                {"AttributeName": "env", "KeyType": "HASH"},
                {"AttributeName": "config_name", "KeyType": "RANGE"},
            ],
        )
        text = json.dumps({"a": 1})
        item = {"env": {"S": "production"}, "config_name": {"S": "x_config"}, "config_value": {"S": text}}
        client.put_item(TableName="config", Item=item)
        assert DynamoConfig(client, "config", "production").read("x_config") == text
        assert DynamoConfig(client, "config", "dev").read("x_config") is None
        with pytest.raises(StoreError, match="GetItem of absent"):
            DynamoConfig(client, "absent", "dev").read("x_config")


def test_the_parameter_store_is_read() -> None:
    """By prefix and name, decrypted; a missing parameter is no entry, a refusal is an error."""
    client = boto3.client("ssm")
    asked = {"Name": "/sosw/x_config", "WithDecryption": True}
    with Stubber(client) as stub:
        stub.add_response("get_parameter", {"Parameter": {"Value": '{"a": 1}'}}, asked)
        stub.add_client_error("get_parameter", "ParameterNotFound", expected_params=asked)
        stub.add_client_error("get_parameter", "AccessDeniedException", expected_params=asked)
        stub.add_client_error("get_parameter", "ThrottlingException", expected_params=asked)
        source = SsmConfig(client, "/sosw/")
        assert source.read("x_config") == '{"a": 1}'
        assert source.read("x_config") is None
        with pytest.raises(StoreError, match=r"ssm: GetParameter failed \(AccessDeniedException\)"):
            source.read("x_config")
        with pytest.raises(StoreUnavailable):
            source.read("x_config")
