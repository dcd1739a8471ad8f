"""Configuration that is stored outside of the code: an entry by name, the JSON text of an object.

A table like sosw's `config` (keys `env` and `config_name`, field `config_value`), or AWS's parameter store. Entries are
cached: a process reads each of them once per `refresh_s`.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from botocore.exceptions import ClientError

from sosw_celery.errors import ConfigError, StoreError
from sosw_celery.stores.aws_errors import error_code, translated

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["CachedConfig", "ConfigSource", "DynamoConfig", "SsmConfig"]

logger = logging.getLogger(__name__)


class ConfigSource(Protocol):
    """Where entries are stored."""

    def read(self, name: str) -> str | None:
        """Return the text of an entry, None when there is none of this name.

        Raises:
            StoreUnavailable: It did not answer; try again.
            StoreError: It refused: no such table, no permission.
        """


class DynamoConfig:
    """Entries in a DynamoDB table."""

    def __init__(self, client: DynamoDBClient, table_name: str, env: str) -> None:
        self._client = client
        self._table_name = table_name
        self._env = env

    def read(self, name: str) -> str | None:
        """Return the text of an entry, None when there is none of this name. See `ConfigSource`."""
        key = {"env": {"S": self._env}, "config_name": {"S": name}}
        with translated("dynamodb", f"GetItem of {self._table_name}"):
            item = self._client.get_item(TableName=self._table_name, Key=key).get("Item", {})
        return item.get("config_value", {}).get("S")


class SsmConfig:
    """Entries in AWS's parameter store, encrypted or not.

    Parameters:
        client: boto3's client of `ssm`.
        prefix: Begins the name of each parameter.
    """

    def __init__(self, client: Any, prefix: str = "") -> None:
        self._client = client
        self._prefix = prefix

    def read(self, name: str) -> str | None:
        """Return the text of an entry, None when there is none of this name. See `ConfigSource`."""
        with translated("ssm", "GetParameter"):
            try:
                answer = self._client.get_parameter(Name=f"{self._prefix}{name}", WithDecryption=True)
            except ClientError as error:
                if error_code(error) == "ParameterNotFound":
                    return None
                raise
        return str(answer["Parameter"]["Value"])


class CachedConfig:
    """The entries of a source, each read again once it is older than `refresh_s`. Safe for threads.

    When a source that answered before fails, its last answer stays in force and the failure is logged: a worker goes on
    with what it knows.
    """

    def __init__(self, source: ConfigSource, refresh_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._refresh_s = refresh_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, Mapping[str, Any]]] = {}

    def get(self, name: str) -> Mapping[str, Any]:
        """Return an entry; an empty one when there is none of this name. Do not change it.

        The same object is returned as long as the entry does not change.

        Raises:
            StoreUnavailable: The source did not answer, and never did.
            StoreError: It refused, and never answered.
            ConfigError: The entry is not the JSON text of an object, and never was.
        """
        with self._lock:
            read_at, entry = self._known.get(name, (None, {}))
            now = self._monotonic()
            if read_at is not None and now - read_at < self._refresh_s:
                return entry
            try:
                entry = self._if_changed(entry, _parsed(name, self._source.read(name)))
            except (StoreError, ConfigError) as problem:
                if read_at is None:
                    raise
                logger.warning("stored configuration not refreshed, the last one holds: %s", problem)
            self._known[name] = (now, entry)
            return entry

    @staticmethod
    def _if_changed(entry: Mapping[str, Any], new: Mapping[str, Any]) -> Mapping[str, Any]:
        return entry if entry == new else new


def _parsed(name: str, text: str | None) -> Mapping[str, Any]:
    if text is None:
        return {}
    try:
        entry = json.loads(text)
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        raise ConfigError(f"stored_config.{name}", text, "the JSON text of an object")
    return entry
