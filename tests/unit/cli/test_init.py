"""`init`: tables and the place for queue files, as often as one likes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from click.testing import CliRunner
from moto import mock_aws

from sosw_celery.cli import init, sosw
from sosw_celery.cli.init import make_places
from sosw_celery.config.settings import load_settings
from sosw_celery.errors import StoreError, StoreUnavailable
from sosw_celery.stores.dynamodb.tables import Tables, definitions

TABLES = [definition["TableName"] for definition in definitions(Tables())]


@pytest.fixture(autouse=True)
def _aws() -> Iterator[None]:
    """No call leaves the process."""
    with mock_aws():
        yield


def services(queue_bucket: str, region: str = "eu-west-1") -> Any:
    """Return what `init` uses of the services."""
    return SimpleNamespace(
        dynamodb=boto3.client("dynamodb", region_name=region),
        s3=boto3.client("s3", region_name=region),
        tables=Tables(),
        settings=load_settings({"queue_bucket": queue_bucket}),
    )


@pytest.mark.parametrize("region", ["eu-west-1", "us-east-1"])
def test_tables_and_bucket_are_made_once(region: str) -> None:
    """The first run makes all, the second one nothing, in any region."""
    found = services("my-queue", region)
    first, second = make_places(found), make_places(found)
    assert (first.tables, first.queue_bucket_made) == (dict.fromkeys(TABLES, True), True)
    assert (second.tables, second.queue_bucket_made) == (dict.fromkeys(TABLES, False), False)
    assert found.s3.get_bucket_location(Bucket="my-queue")["LocationConstraint"] in (region, None)


def test_a_directory_is_made_with_all_above_it(tmp_path: Path) -> None:
    """A queue place in the file system; its name may hold what a URL has to escape."""
    place = tmp_path / "a b" / "queue"
    found = services(place.as_uri())
    assert make_places(found).queue_bucket_made
    assert place.is_dir()
    assert not make_places(found).queue_bucket_made


def test_a_place_that_cannot_be_made_is_an_error_of_the_store(tmp_path: Path) -> None:
    """A file in the way, a bucket of somebody else, a server that does not answer: each is ours, none the vendor's."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="directory"):
        make_places(services((tmp_path / "file" / "queue").as_uri()))
    found = services("my-queue")

    def refuse(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")

    found.s3 = SimpleNamespace(head_bucket=refuse)
    with pytest.raises(StoreUnavailable, match="s3"):
        make_places(found)


def test_the_command_says_what_it_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line for each thing, or JSON."""
    found = services("my-queue")
    monkeypatch.setattr(init, "services_at", lambda data: found)
    lines = CliRunner().invoke(sosw, ["init"]).stdout.splitlines()
    assert lines == [*(f"table {name}: made" for name in TABLES), "queue files in my-queue: made"]
    again = json.loads(CliRunner().invoke(sosw, ["init", "--json"]).stdout)
    assert again["queue_bucket"] == {"name": "my-queue", "made": False}
    assert {table["name"]: table["made"] for table in again["tables"]} == dict.fromkeys(TABLES, False)
