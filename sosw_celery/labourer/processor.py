"""The base of classes that are configured, hold clients and count: what `Worker` adds the life of a task to.

    class Report(Processor):
        DEFAULT_CONFIG = {"init_clients": ["s3", "dynamo_db"], "dynamo_db_config": {...}, "bucket": "reports"}

        def __call__(self, event):
            self.s3_client.put_object(Bucket=self.config["bucket"], ...)
            self.stats["reports"] += 1
            super().__call__(event)

`config` is `DEFAULT_CONFIG`, under the stored configuration, under `custom_config`: dicts are joined, anything else of
the more specific one replaces, lists too. Each name in `init_clients` becomes an attribute `NAME_client`.
"""

from __future__ import annotations

import functools
import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import boto3

from sosw_celery.celery import current
from sosw_celery.config.places import found_at
from sosw_celery.core.deep_merge import merged_deeply
from sosw_celery.errors import ConfigError
from sosw_celery.sosw_compat.dynamo_client import DynamoDbClient
from sosw_celery.text import did_you_mean
from sosw_celery.wiring.container import services_of

__all__ = ["Processor"]

logger = logging.getLogger(__name__)

CLIENT = "_client"
OWN_CLIENTS = ("dynamo_db",)

#: Keys of `NAME_config` that tell where a service of AWS is.
PLACE = ("region_name", "endpoint_url")

#: Between a small letter or digit and a capital, and before the last of several capitals: DynamoDb, SNSTopics.
WORD_BORDER = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Processor:
    """A configured callable with clients, stats and a result.

    Parameters:
        custom_config: Laid over `DEFAULT_CONFIG` and the stored configuration.
        test: Kept as `self.test`, as in sosw.

    Raises:
        ConfigError: A client is not known, or its configuration is missing.
        StoreError: The stored configuration cannot be read.
    """

    DEFAULT_CONFIG: Mapping[str, Any] = {}
    #: The stored configuration is the entry `NAME_config`; without a name there is none.
    name: str = ""

    def __init__(self, custom_config: Mapping[str, Any] | None = None, *, test: bool = False, **_: Any) -> None:
        self.test = test
        self.config: dict[str, Any] = {}
        self._custom_config = custom_config
        self._stored_config: Any = None
        self.stats = defaultdict(int)
        self.result = defaultdict(int)
        self.init_config(custom_config)
        self.register_clients(self.config.get("init_clients") or [])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Count the call, and forget its result unless `reset_result` is false: the end of a subclass's `__call__`.

        It is called with the event, and `reset_result` where that is not to be true.
        """
        _, reset_result, _ = call_arguments(*args, **kwargs)
        self.stats["processor_calls"] += 1
        if reset_result:
            self.result = defaultdict(int)

    # ---- stats and result

    @property
    def stats(self) -> defaultdict[str, Any]:
        """Counters, 0 until set."""
        return self._stats

    @stats.setter
    def stats(self, value: Mapping[str, Any]) -> None:
        self._stats: defaultdict[str, Any] = counters(value)

    @property
    def result(self) -> dict[str, Any]:
        """What was found, 0 until set."""
        return self._result

    @result.setter
    def result(self, value: Mapping[str, Any]) -> None:
        self._result: dict[str, Any] = counters(value)

    def get_stats(self, recursive: bool = True) -> dict[str, Any]:
        """Return the stats, and with them those of every `NAME_client` that has some (the own ones win).

        Where clients refer to each other in a circle, override it to call `super().get_stats(recursive=False)`.
        """
        stats: dict[str, Any] = {}
        for client in self._countings() if recursive else ():
            found = client.get_stats()
            stats |= found if isinstance(found, Mapping) else {}
        return stats | self.stats

    def reset_stats(self, recursive: bool = True) -> None:
        """Count from 0 again, also in every `NAME_client`.

        Kept are stats that `lifetime_stats_params` of the config names, those that begin with `total_`, and each
        other number as what it adds to its `total_NAME`.
        """
        lasting = self.config.get("lifetime_stats_params") or ()
        kept: defaultdict[str, Any] = defaultdict(int)
        for name, value in self.stats.items():
            if name in lasting or str(name).startswith("total_"):
                kept[name] = value
        for name, value in self.stats.items():
            if name not in kept and isinstance(value, (int, float)):
                kept[f"total_{name}"] += value
        self.stats = kept
        for client in self._countings() if recursive else ():
            if callable(getattr(client, "reset_stats", None)):
                client.reset_stats()

    # ---- configuration

    def init_config(self, custom_config: Mapping[str, Any] | None = None) -> None:
        """Set `config` from `DEFAULT_CONFIG`, the stored configuration and `custom_config`."""
        name = self._config_name
        self._stored_config = self.get_config(name) if name else {}
        if not isinstance(self._stored_config, Mapping):
            raise ConfigError(f"stored_config.{name}", self._stored_config, "a dict")
        self.config = merged_deeply(self.DEFAULT_CONFIG or {}, self._stored_config, custom_config or {})

    @staticmethod
    def get_config(name: str) -> Any:
        """Return a stored configuration by its name, cached for `refresh_s`; an empty one when there is none.

        Override it to store configurations elsewhere.

        Raises:
            StoreError: It cannot be read, and never could.
        """
        source = services_of(current()).stored_config
        return {} if source is None else source.get(name)

    def refresh_config(self) -> bool:
        """Take over what has changed in the stored configuration since the last call; return whether anything has.

        The clients are made anew then, for their part of it may have changed. A worker does this before each run.
        """
        changed = [client.refresh_config() for client in self._attached() if isinstance(client, Processor)]
        if not self._config_name or self.get_config(self._config_name) == self._stored_config:
            return any(changed)
        self.init_config(self._custom_config)
        self.register_clients(self.config.get("init_clients") or [])
        logger.info("configuration refreshed", extra={"config_name": self._config_name})
        return True

    @property
    def _config_name(self) -> str:
        # A class that runs as a Lambda function is called as its function is, as in sosw.
        name = self.name or os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "")
        return f"{name}_config" if name else ""

    def _c(self, path: str, default: Any = None) -> Any:
        """Return what stands at a dotted path of the config, the default where nothing does."""
        found: Any = self.config
        for step in path.split("."):
            found = found.get(step) if isinstance(found, Mapping) else None
        return default if found is None else found

    # ---- clients

    def register_clients(self, clients: Iterable[str]) -> None:
        """Set an attribute `NAME_client` for each of the names.

        A name is that of a service of AWS in boto3, in any case (`s3`, `Sns`, `lambda`), `dynamo_db` for a
        `DynamoDbClient` with `dynamo_db_config`, or `my_module:ThingClient` for a class of one's own, which is called
        with `thing_config` and becomes `thing_client`.

        Raises:
            ConfigError: There is no such client, or `dynamo_db_config` is missing.
        """
        for client in clients:
            attribute, value = self._client_of(client)
            setattr(self, attribute, value)

    def get_ddbc(self, prefix: str) -> DynamoDbClient:
        """Return the client of the table that `PREFIX_dynamo_db_config` describes, made when it is first asked for.

        Raises:
            ValueError: There is no such configuration; says which there are.
        """
        suffix = "_dynamo_db_config"
        if f"{prefix}{suffix}" not in self.config:
            known = sorted(key.removesuffix(suffix) for key in self.config if key.endswith(suffix))
            raise ValueError(f"get_ddbc: expected one of the prefixes {known}, got {prefix!r}")
        attribute = f"{prefix}_dynamo_db{CLIENT}"
        if vars(self).get(attribute) is None:
            setattr(self, attribute, _own_dynamo_db(f"{prefix}{suffix}", self.config[f"{prefix}{suffix}"]))
        found = vars(self)[attribute]
        return found  # type: ignore[no-any-return]  # set just above, or by a test

    def die(self, message: str = "Unknown Failure") -> None:
        """Log the stats and give up.

        Raises:
            RuntimeError: Always, with the message; a worker's attempt is then failed.
        """
        logger.error("%s, with the stats %s", message, self.get_stats())
        raise RuntimeError(message)

    def _client_of(self, client: str) -> tuple[str, Any]:
        if ":" in client:
            return self._client_of_class(client)
        name = underscored(client)
        config = self.config.get(f"{name}_config")
        if name in OWN_CLIENTS:
            return f"{name}{CLIENT}", _own_dynamo_db(f"{name}_config", config)
        place = {key: config[key] for key in PLACE if config.get(key)} if isinstance(config, Mapping) else {}
        return f"{name}{CLIENT}", _boto3_client(_service(client), {**_default_place(), **place})

    def _client_of_class(self, path: str) -> tuple[str, Any]:
        made = found_at("init_clients", path, "a module and a class in it")
        name = underscored(re.sub(r"(?<=.)(Client|Manager)$", "", path.partition(":")[2]))
        config = self.config.get(f"{name}_config")
        if isinstance(made, type) and issubclass(made, Processor):
            return f"{name}{CLIENT}", made(custom_config=config)
        return f"{name}{CLIENT}", made() if config is None else made(config=config)

    def _attached(self) -> Iterator[Any]:
        """Yield each client once, those of the class and those of the object."""
        own = [name for name in vars(self) if name.endswith(CLIENT)]
        seen: set[int] = set()
        for name in sorted(_client_names(type(self).__mro__).union(own)):
            client = getattr(self, name)
            if client is not None and id(client) not in seen:
                seen.add(id(client))
                yield client

    def _countings(self) -> Iterator[Any]:
        return (client for client in self._attached() if callable(getattr(client, "get_stats", None)))


def _client_names(classes: tuple[type, ...]) -> frozenset[str]:
    """Return the names of the clients that classes have. Workers ask several times in each run."""
    return _found_client_names(classes, sum(len(vars(cls)) for cls in classes))


@functools.lru_cache(maxsize=256)
def _found_client_names(classes: tuple[type, ...], attributes: int) -> frozenset[str]:
    """Look the names up: once, and again when the classes have got more attributes."""
    return frozenset(name for cls in classes for name in vars(cls) if name.endswith(CLIENT))


def call_arguments(event: Any = None, reset_result: bool = True, **others: Any) -> tuple[Any, bool, dict[str, Any]]:
    """Return what `__call__` was called with. Its own signature stays open for those of subclasses."""
    return event, reset_result, others


def counters(value: Mapping[str, Any]) -> defaultdict[str, Any]:
    """Return the mapping as counters that are 0 until set; itself if it is one that counts from 0."""
    return value if isinstance(value, defaultdict) else defaultdict(int, value)


def underscored(name: str) -> str:
    """Return a name in small letters with underscores between its words: DynamoDb and DynamoDB become dynamo_db."""
    return WORD_BORDER.sub("_", name.replace("-", "_")).lower()


def _service(client: str) -> str:
    """Return what boto3 calls a service: `Sns` is sns, `StepFunctions` stepfunctions, `service_discovery` has none."""
    known = boto3.session.Session().get_available_services()
    name = underscored(client)
    for service in (client.lower(), name, name.replace("_", "-"), name.replace("_", "")):
        if service in known:
            return service
    hint = did_you_mean(name, [*known, *OWN_CLIENTS])
    raise ConfigError("init_clients", client, f"a service of boto3, dynamo_db or my_module:ThingClient{hint}")


def _boto3_client(service: str, place: Mapping[str, Any]) -> Any:
    make: Any = boto3.client  # looked up when it is called, so that tests may patch it; its stubs know some names only
    return make(service, **place)


def _default_place() -> dict[str, str]:
    region = services_of(current()).settings.aws_region
    return {"region_name": region} if region else {}


def _own_dynamo_db(key: str, config: Any) -> DynamoDbClient:
    """Return a client of the table that a config describes, in the region and at the endpoint of the task tables."""
    if not isinstance(config, Mapping):
        raise ConfigError(key, config, "a dict with row_mapper, required_fields and table_name")
    settings = services_of(current()).settings
    place = {"region_name": settings.aws_region, "endpoint_url": settings.dynamodb_endpoint}
    return DynamoDbClient({**{key: value for key, value in place.items() if value}, **config})
