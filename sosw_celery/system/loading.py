"""How the app reads its configuration, and imports the code that this names.

What is wrong with either is told as everywhere here: as a `ConfigError`, whose text is one line. In a command of the
`celery` program that line is what is printed, instead of a traceback, and the command ends with the exit code that
`sosw-celery` has for it.

Code of labourers is not needed by everybody. Where it cannot be imported, the loader of a worker or of beat only takes
note of that: a node that is to run those labourers does not start (`NeededCode`), all others do their work.
"""

from __future__ import annotations

import contextlib
import enum
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import click
from celery import Celery, bootsteps
from celery.fixups import django
from celery.loaders.app import AppLoader

from sosw_celery.celery import is_ours
from sosw_celery.config.places import importable_beside, reason_of
from sosw_celery.errors import ConfigError, SoswError
from sosw_celery.labourer.serving import asks_tables, serves_ours
from sosw_celery.local.stack_place import data_dir, may_run
from sosw_celery.names import QUEUES, SCHEDULER
from sosw_celery.services.preview import Chunker
from sosw_celery.system.defaults import unstated
from sosw_celery.system.exits import code_of, line_of
from sosw_celery.wiring.container import services_of, settings_of

__all__ = [
    "Loader",
    "MissingCode",
    "Needed",
    "NeededCode",
    "end_if_needed",
    "ending_commands",
    "is_node",
    "missing_code",
    "stack_here",
    "tell_of_missing",
]

logger = logging.getLogger(__name__)

CONFIG_MODULE = "CELERY_CONFIG_MODULE"
#: The same as `sosw-celery --debug`.
DEBUG = "SOSW_DEBUG"
#: Where an app keeps what could not be imported.
_ATTRIBUTE = "_sosw_missing_code"


class Needed(enum.Enum):
    """Which nodes of ours need something."""

    #: It may hold any labourer.
    BY_LABOURERS = enum.auto()
    #: Nothing of ours works without it.
    BY_ALL = enum.auto()


@dataclass(frozen=True)
class MissingCode:
    """Code that could not be imported, or a configuration that cannot be used.

    Parameters:
        needed: By which nodes; a text names the one labourer whose code it is.
    """

    problem: ConfigError
    needed: Needed | str = Needed.BY_LABOURERS

    def is_needed_for(self, queues: frozenset[str]) -> bool:
        """Return whether a node that takes from these queues needs it."""
        if isinstance(self.needed, Needed):
            return self.needed is Needed.BY_ALL or bool(queues - frozenset(QUEUES.values()))
        return self.needed in queues


class Loader(AppLoader):
    """Celery's loader of an app, with errors that can be read, and with our result backend on Redis."""

    override_backends = dict.fromkeys(("redis", "rediss"), "sosw_celery.system.results:RedisBackend")

    def config_from_object(self, obj: Any, silent: bool = False) -> None:
        """Read the configuration, with a local stack that runs here in place of its servers, and have the modules
        beside it importable.

        Raises:
            ConfigError: It is not there, or raises something itself.
        """
        with ending_commands(self.app):
            try:
                stack = stack_here()
                super().config_from_object(obj, silent=silent)
                if stack:
                    super().config_from_object(_placed_on(stack, self.conf), silent=silent)
            except SoswError:
                raise
            except (Exception, SystemExit) as problem:  # a configuration is code, and can fail in any way
                raise _unreadable(obj, problem) from problem
            self.app.add_defaults(lambda: unstated(self.conf))  # evaluated at once after this
        module = sys.modules.get(obj.partition(":")[0]) if isinstance(obj, str) else None
        if module is not None:
            importable_beside(module)

    def init_worker(self) -> None:
        """Import what a worker or beat needs. What Django needs comes first, where it is used.

        Not when the app is made, as Celery does it: that would have the app be the one that all threads of a Django
        project fall back to, if it is made before theirs.
        """
        if not self.worker_initialized:
            django.fixup(self.app)
        super().init_worker()

    def import_default_modules(self) -> list[Any]:
        """Import the tasks of the system, the labourers that the configuration names, and the modules of `imports`.

        Raises:
            ConfigError: The configuration is wrong; or, unless this is a worker or beat, something cannot be imported.
        """
        with ending_commands(self.app):
            modules = super().import_default_modules()
            missing = missing_code(self.app)
            if missing and not self.worker_initialized:
                raise missing[0].problem
        return modules

    def import_task_module(self, module: str) -> Any:
        """Import a module of `imports`, or take note that it cannot be."""
        try:
            return super().import_task_module(module)
        except (Exception, SystemExit) as problem:  # noqa: BLE001  # modules are code, and can fail in any way
            error = ConfigError("imports", module, f"modules that can be imported ({reason_of(problem)})")
            error.__cause__ = problem
            missing_code(self.app).append(MissingCode(error))
            return None


def missing_code(app: Celery) -> list[MissingCode]:
    """Return the app's list of what could not be imported; who finds out adds to it."""
    return vars(app).setdefault(_ATTRIBUTE, [])  # type: ignore[no-any-return]  # set right here


class NeededCode(bootsteps.Step):
    """Worker bootstep: ends a node that lacks code, or a place of its tables; other nodes say what is missing."""

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        if not is_node(parent.app):
            tell_of_missing(parent.app, Needed.BY_ALL)
            return
        queues = frozenset(parent.app.amqp.queues.consume_from)
        end_if_needed(parent.app, queues)
        tell_of_missing(parent.app)
        services = services_of(parent.app)
        if asks_tables(services.settings, queues):
            with ending_commands(parent.app):
                _ = services.dynamodb  # raises if nobody says in which region it is
        if QUEUES[SCHEDULER] in queues:
            _tell_of_missing_chunker(parent.app)


def is_node(app: Celery) -> bool:
    """Return whether this worker is there for work of ours: one of our own app always is, whatever its queues are."""
    return is_ours(app) or serves_ours(app)


def end_if_needed(app: Celery, queues: frozenset[str] = frozenset()) -> None:
    """End this process if something is missing that it needs.

    Parameters:
        queues: That a node takes from; none of beat, which needs what all of ours need.

    Raises:
        ConfigError: Something is, and this is no command of the `celery` program.
        SystemExit: The same in such a command.
    """
    for missing in missing_code(app):
        if missing.is_needed_for(queues):
            with ending_commands(app):
                raise missing.problem


def tell_of_missing(app: Celery, needed: Needed | None = None) -> None:
    """Log what is missing, where nobody needs it.

    Parameters:
        needed: Of that alone which these nodes need; None: of all.
    """
    for missing in missing_code(app):
        if needed in (None, missing.needed):
            logger.error("not needed here, but nodes that need it will not start: %s", missing.problem)


def _tell_of_missing_chunker(app: Celery) -> None:
    """Log that jobs cannot be chunked here; what was chunked before goes on, so that ends nothing."""
    try:
        Chunker(settings_of(app)).check_code()
    except ConfigError as problem:
        logger.error("no job becomes tasks until this is mended: %s", problem)


@contextlib.contextmanager
def ending_commands(app: Celery) -> Iterator[None]:
    """Have an error of ours end the command of the `celery` program that runs on this app, if one does.

    Raises:
        SystemExit: With the code of the error, which was printed in one line; with SOSW_DEBUG=1 its traceback as well.
    """
    try:
        yield
    except SoswError as problem:
        if not _is_in_celery_command(app):
            raise
        if os.environ.get(DEBUG, "").lower() not in ("", "0", "false", "no", "off"):
            traceback.print_exc()
        click.echo(line_of(problem), err=True)
        raise SystemExit(int(code_of(problem))) from problem


def _is_in_celery_command(app: Celery) -> bool:
    """Return whether `celery -A OUR_APP` runs a command of Celery's: those of `sosw` have an end of their own."""
    context = click.get_current_context(silent=True)
    if context is None or getattr(context.find_root().obj, "app", None) is not app:
        return False
    while context is not None:
        if type(context.command).__module__.startswith("sosw_celery."):
            return False
        context = context.parent
    return True


def stack_here() -> Mapping[str, str]:
    """Return the addresses of the local stack that this process is to use, by their variables; none where none runs.

    They are set there too, for what the configuration reads, and for clients of AWS; what is set already counts.
    """
    directory = data_dir()
    if not may_run(directory):
        return {}
    found = importlib.import_module("sosw_celery.local").environment_of(directory) or {}
    for name, value in found.items():
        os.environ.setdefault(name, value)
    return {name: os.environ[name] for name in found}


def _placed_on(stack: Mapping[str, str], conf: Any) -> dict[str, Any]:
    """Return the settings of a configuration with the stack in place of its servers."""
    stated = {name: conf[name] for name in conf if not name.startswith("_")}
    placed: dict[str, Any] = importlib.import_module("sosw_celery.local.configuration").configured_for(stated, stack)
    return placed


def _unreadable(obj: Any, problem: BaseException) -> ConfigError:
    if isinstance(problem, ModuleNotFoundError) and problem.name == obj:
        cure = f"go where your celeryconfig.py is, or set {CONFIG_MODULE}; or import the module of your own app first"
        return ConfigError("configuration", obj, f"a module that is found from {os.getcwd()} ({cure})")
    return ConfigError("configuration", obj, f"a module that can be imported ({reason_of(problem)})")
