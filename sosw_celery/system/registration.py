"""Makes labourers of the classes and of the Lambda functions that the configuration names."""

from __future__ import annotations

from celery import Celery

from sosw_celery.config.places import found_at
from sosw_celery.errors import ConfigError
from sosw_celery.labourer.lambda_worker import LambdaWorker
from sosw_celery.labourer.worker import Worker
from sosw_celery.system.loading import MissingCode, missing_code
from sosw_celery.wiring.container import settings_of

__all__ = ["register_configured", "worker_class"]


def register_configured(app: Celery) -> None:
    """Register each labourer whose entry has a `worker`, as `Worker.register_as` does, or says `invoke: lambda`.

    The app's loader takes note of those that cannot be: others run without them.

    Raises:
        ConfigError: The configuration is wrong.
    """
    for name, labourer in settings_of(app).labourers.items():
        if labourer.worker is not None:
            try:
                _register(app, name, labourer.worker)
            except ConfigError as problem:
                missing_code(app).append(MissingCode(problem, name))
        elif labourer.invoke == "lambda":
            LambdaWorker.register_as(name, app=app)


def _register(app: Celery, name: str, path: str) -> None:
    key = f"sosw.labourers.{name}.worker"
    found = worker_class(key, path)
    try:
        found.register_as(name, app=app)
    except (TypeError, ValueError) as problem:
        raise ConfigError(key, path, f"a class that can be a labourer ({problem})") from problem


def worker_class(key: str, path: str) -> type[Worker]:
    """Return the class at `my_module:Class`; `key` is where the configuration says so.

    Raises:
        ConfigError: It names no subclass of `Worker`; what its import raised is chained.
    """
    found = found_at(key, path, "a module that can be imported and a class in it")
    if not (isinstance(found, type) and issubclass(found, Worker)):
        raise ConfigError(key, path, "a subclass of sosw_celery.Worker")
    return found
