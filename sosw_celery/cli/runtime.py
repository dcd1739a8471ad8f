"""How a command finds the configuration and the servers, and what it does with them in common."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

import click

from sosw_celery.cli.exits import ADDRESSES, APP
from sosw_celery.config.masking import masked
from sosw_celery.errors import ConfigError
from sosw_celery.local.stack_place import DATA_DIR, DATA_VARIABLE
from sosw_celery.system.exits import Terminated

if TYPE_CHECKING:
    from celery import Celery

    from sosw_celery.wiring.container import Services

__all__ = [
    "command_app",
    "command_app_name",
    "config_module",
    "data_option",
    "end_on_sigterm",
    "given_id",
    "load_services",
    "services_at",
]

CONFIG_MODULE = "CELERY_CONFIG_MODULE"
#: The name of the app that a command of Celery's has without `-A`.
CELERYS_DEFAULT = "default"

data_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=DATA_DIR,
    show_default=True,
    envvar=DATA_VARIABLE,
    help="Directory of `sosw-celery up`; its servers are used while it runs.",
)


def given_id(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    """Return the id that was given: an empty one is a variable of the shell that is not set."""
    if not value:
        raise click.BadParameter("expected an id, got ''")
    return value


def load_services() -> Services:
    """Return the services of the app that the command is for, configured as its workers are when they start here.

    Nothing has connected yet. This is the one place where commands load the configuration: done on import, a broken one
    would take `--help` with it.

    Raises:
        ConfigError: There is no configuration, it cannot be read, or a setting is wrong.
    """
    services: Services = importlib.import_module("sosw_celery.wiring.container").services_of(command_app())
    return services


def command_app() -> Celery:
    """Return the app that the command is for: that of `sosw-celery -A` or `celery -A`, else `sosw_celery`.

    Raises:
        ConfigError: It is not there, cannot be imported, or has no system on it.
    """
    apps = importlib.import_module("sosw_celery.celery")
    context = click.get_current_context(silent=True)
    name = None if context is None else context.meta.get(APP)
    app: Any = None if context is None else getattr(context.find_root().obj, "app", None)
    if name:
        app = _found_app(name)
    elif app is None or app.main == CELERYS_DEFAULT:
        app = apps.ours()
    if not apps.is_installed(app):
        expected = "an app that has the system: app = sosw_celery.install(Celery(...))"
        raise ConfigError("--app", name or app.main, expected)
    return cast("Celery", app)


def command_app_name() -> str:
    """Return what has to follow `celery -A` for the app that the command is for.

    Raises:
        ConfigError: It was named to another program than `sosw-celery`, which keeps that to itself.
    """
    context = click.get_current_context(silent=True)
    name: str | None = None if context is None else context.meta.get(APP)
    if name is not None:
        return name
    app = command_app()
    if not importlib.import_module("sosw_celery.celery").is_ours(app):
        raise ConfigError("celery -A", app.main, "`sosw-celery -A APP`, for a command that starts processes")
    return "sosw_celery"


def shown_app_name() -> str:
    """Return what follows `celery -A` in a command line that is shown; `APP` where nobody said it."""
    try:
        return command_app_name()
    except ConfigError:
        return "APP"


def _found_app(name: str) -> Any:
    """Return the app at `-A`, found as Celery finds it."""
    utils = importlib.import_module("celery.app.utils")
    try:
        return utils.find_app(name)
    except (Exception, SystemExit) as problem:
        expected = f"a module with a Celery app, as `celery -A` takes it ({_why_no_app(name, problem)})"
        raise ConfigError("--app", name, expected) from problem


def _why_no_app(name: str, problem: BaseException) -> str:
    """Return what is wrong with the module that was to have the app: what it raised, or which apps it has instead.

    What Celery says is about the place where it looked last, and it passes over a module `celery` of a package that
    cannot be imported.
    """
    reason_of = importlib.import_module("sosw_celery.config.places").reason_of
    module = sys.modules.get(name.partition(":")[0])
    is_not_found = isinstance(problem, AttributeError) or getattr(problem, "name", None) == name
    if module is None or not is_not_found:
        return str(reason_of(problem))
    if hasattr(module, "__path__") and module.__name__ == name:
        try:
            importlib.import_module(f"{name}.celery")
        except (Exception, SystemExit) as own_problem:  # noqa: BLE001  # modules are code, and can fail in any way
            if getattr(own_problem, "name", None) != f"{name}.celery":
                return str(reason_of(own_problem))
    celery = importlib.import_module("celery").Celery
    apps = [f"{module.__name__}:{key}" for key, value in vars(module).items() if isinstance(value, celery)]
    return f"{module.__name__} has {', '.join(apps) or 'none'}"


def config_module() -> str:
    """Return the name of the module that the app `sosw_celery` reads its configuration from."""
    return os.environ.get(CONFIG_MODULE, "celeryconfig")


def services_at(data_dir: Path) -> Services:
    """Return the services for a command that asks servers: those of the local stack in `data_dir` while it runs.

    What the environment says about addresses counts before the stack, which counts before what the configuration says:
    the app looks for the stack itself when it reads that.

    Raises:
        ConfigError: See `load_services`; or it is not known which AWS is meant.
    """
    os.environ[DATA_VARIABLE] = str(data_dir)
    services = load_services()
    endpoint = services.dynamodb.meta.endpoint_url
    context = click.get_current_context(silent=True)
    if context is not None:
        context.meta[ADDRESSES] = {"dynamodb": endpoint, "redis": masked(services.settings.redis_url)}
    return services


def end_on_sigterm() -> None:
    """Have SIGTERM end this process as Ctrl-C does, so that what it started is ended in good order."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _raise_terminated)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def _raise_terminated(number: int, frame: FrameType | None) -> None:
    raise Terminated
