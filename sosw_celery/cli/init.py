"""`sosw-celery init`: the tables, and the place for queue files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import click
from botocore.exceptions import BotoCoreError, ClientError

from sosw_celery.cli import Command
from sosw_celery.cli.output import json_option, print_json
from sosw_celery.cli.runtime import data_option, services_at
from sosw_celery.errors import StoreError, StoreUnavailable
from sosw_celery.stores.aws_errors import error_code
from sosw_celery.stores.dynamodb.tables import create_tables, definitions

if TYPE_CHECKING:
    from sosw_celery.wiring.container import Services

__all__ = ["Made", "init", "make_places"]

#: The region whose buckets are made without naming it.
DEFAULT_REGION = "us-east-1"


@dataclass(frozen=True)
class Made:
    """What is there now: tables and the place for queue files.

    Parameters:
        tables: Name of each table -> whether it was made now.
        queue_bucket: As configured.
        queue_bucket_made: Whether it was made now.
    """

    tables: dict[str, bool]
    queue_bucket: str
    queue_bucket_made: bool


def make_places(services: Services) -> Made:
    """Have the tables and the place for queue files; what is there already is left as it is.

    Raises:
        StoreUnavailable: DynamoDB or S3 does not answer.
        StoreError: They refuse.
    """
    made = set(create_tables(services.dynamodb, services.tables))
    names = [definition["TableName"] for definition in definitions(services.tables)]
    return Made(
        tables={name: name in made for name in names},
        queue_bucket=services.settings.queue_bucket,
        queue_bucket_made=_make_queue_place(services),
    )


def _make_queue_place(services: Services) -> bool:
    url = urlsplit(services.settings.queue_bucket)
    if url.scheme == "file":
        return _make_directory(Path(unquote(url.path)))
    try:
        return _make_bucket(services.s3, services.settings.queue_bucket)
    except ClientError as error:
        raise StoreError("s3", "CreateBucket", error_code(error)) from error
    except BotoCoreError as error:
        raise StoreUnavailable("s3", "CreateBucket", type(error).__name__) from error


def _make_directory(path: Path) -> bool:
    if path.is_dir():
        return False
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError("directory", f"making {path}", type(error).__name__) from error
    return True


def _make_bucket(s3: Any, bucket: str) -> bool:
    try:
        s3.head_bucket(Bucket=bucket)
        return False
    except ClientError as error:
        if error_code(error) not in ("404", "NoSuchBucket"):
            raise
    region = s3.meta.region_name
    place = {} if region == DEFAULT_REGION else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    try:
        s3.create_bucket(Bucket=bucket, **place)
    except s3.exceptions.BucketAlreadyOwnedByYou:
        return False
    return True


@click.command(
    cls=Command,
    examples=[
        "sosw-celery init",
        "SOSW_DYNAMODB_ENDPOINT=http://127.0.0.1:8000 sosw-celery init --json",
    ],
)
@data_option
@json_option
def init(data: Path, as_json: bool) -> None:
    """Make the tables and the place for queue files. What is there already is left as it is."""
    made = make_places(services_at(data))
    if as_json:
        print_json(
            {
                "tables": [{"name": name, "made": is_new} for name, is_new in made.tables.items()],
                "queue_bucket": {"name": made.queue_bucket, "made": made.queue_bucket_made},
            }
        )
        return
    for name, is_new in made.tables.items():
        click.echo(f"table {name}: {_word(is_new)}")
    click.echo(f"queue files in {made.queue_bucket}: {_word(made.queue_bucket_made)}")


def _word(is_new: bool) -> str:
    return "made" if is_new else "there already"
