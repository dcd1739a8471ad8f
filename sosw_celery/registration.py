"""Makes labourers of the classes and of the Lambda functions that the configuration names."""

from __future__ import annotations

import importlib

from celery import Celery

from sosw_celery.errors import ConfigError
from sosw_celery.lambda_worker import LambdaWorker
from sosw_celery.wiring import settings_of
from sosw_celery.worker import Worker

__all__ = ["register_configured"]


def register_configured(app: Celery) -> None:
    """Register each labourer whose entry has a `worker`, as `Worker.register_as` does, or says `invoke: lambda`.

    Raises:
        ConfigError: It names no subclass of `Worker`; what its import raised is chained.
    """
    for name, labourer in settings_of(app).labourers.items():
        if labourer.worker is not None:
            worker_class(f"sosw.labourers.{name}.worker", labourer.worker).register_as(name)
        elif labourer.invoke == "lambda":
            LambdaWorker.register_as(name)


def worker_class(key: str, path: str) -> type[Worker]:
    """Return the class at `my_module:Class`; `key` is where the configuration says so."""
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as problem:
        raise ConfigError(key, path, f"a module that can be imported and a class in it ({problem})") from problem
    if not (isinstance(found, type) and issubclass(found, Worker)):
        raise ConfigError(key, path, "a subclass of sosw_celery.Worker")
    return found
