"""The Celery apps that carry the system: `install` puts it on one, and `app` is one that is made for it.

    from sosw_celery import install
    app = install(Celery("proj", broker="redis://..."), {"labourers": {"resize": {...}}})

`celery -A sosw_celery` finds `app` here. It reads the module that `CELERY_CONFIG_MODULE` names, `celeryconfig` by
default.

This module is a leaf: a program that imports it has loaded Celery and nothing else. What the system consists of is
loaded by `system/bootstrap.py`, when an app is configured, finalized, or sends something of ours.
"""

from __future__ import annotations

import functools
import importlib
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from celery import Celery
from celery.app import app_or_default
from celery.result import AsyncResult
from celery.signals import celeryd_init, import_modules

from sosw_celery.errors import ConfigError
from sosw_celery.names import check_task_name
from sosw_celery.text import kind_of

__all__ = [
    "app",
    "current",
    "install",
    "installed",
    "is_finalized",
    "is_installed",
    "is_ours",
    "ours",
    "place",
    "section_of",
    "stated_section",
]

AnyApp = TypeVar("AnyApp", bound=Celery)

#: The app of `celery -A sosw_celery`. Made when it is first asked for: a project with an app of its own has no other.
app: Celery

BOOTSTRAP = "sosw_celery.system.bootstrap"
LOADER = "sosw_celery.system.loading:Loader"
#: Where an app keeps the section that `install` was given.
_ATTRIBUTE = "_sosw_section"
#: Where it keeps that with other servers in it.
_PLACED = "_sosw_placed_section"
#: Where it keeps that its modules were imported, so that this process is a worker or beat.
_IMPORTED = "_sosw_imported"

_lock = threading.RLock()
#: In the order of their installation. Apps live as long as their program.
_installed: list[Celery] = []
_ours: Celery | None = None


def install(app: AnyApp, config: Mapping[str, Any] | None = None) -> AnyApp:
    """Put the system on a Celery app, and return the app. Installing it twice changes nothing.

    Nothing is read or loaded now. The app's own tasks, routes and settings stay as they are; see "Add it to a Celery
    project" for what changes in a worker that serves a labourer.

    Parameters:
        config: The section `sosw`; by default what the app's configuration has under `sosw`, or with a namespace, as
            Django projects have one, under `CELERY_SOSW`.

    Raises:
        ConfigError: It is no Celery app, or the section is no dict; or the app has the system already, with another
            section.
    """
    if not isinstance(app, Celery):
        raise ConfigError("install(app)", app, "a Celery app: install(Celery(...))")
    if config is not None and not isinstance(config, Mapping):
        raise ConfigError("install(app, config)", kind_of(config), "a dict, the section `sosw`")
    with _lock:
        if is_installed(app):
            if config is not None and config != vars(app)[_ATTRIBUTE]:
                # Without its values: passwords may be among them.
                raise ConfigError("install(app, config)", sorted(config), "what this app was installed with before")
            return app
        vars(app)[_ATTRIBUTE] = config
        _installed.append(app)
        # Methods of this one app: Celery has no signal that says which app sends, and none for a task that is made.
        app.task = functools.partial(_task, app, _method(app, "task"))  # type: ignore[method-assign]
        app.send_task = functools.partial(_send_task, app, _method(app, "send_task"))  # type: ignore[method-assign]
        app.bugreport = functools.partial(_bugreport, app)  # type: ignore[method-assign]
        app.on_after_configure.connect(_on_configured, weak=False)
        app.on_after_finalize.connect(_on_finalized, weak=False)
        import_modules.connect(_on_import, sender=app, weak=False)
        if _is_configured(app):
            _on_configured(app)
        if is_finalized(app):
            _on_finalized(app)
    return app


def is_installed(app: Celery) -> bool:
    """Return whether the app has the system."""
    return _ATTRIBUTE in vars(app)


def is_ours(app: Celery) -> bool:
    """Return whether it is the app `sosw_celery`, and not one of somebody else's."""
    return app is _ours


def is_finalized(app: Celery) -> bool:
    """Return whether the app's tasks are made: what comes later is registered at once."""
    state: Any = app  # the stubs do not know of it
    return bool(state.finalized)


def installed() -> list[Celery]:
    """Return the apps that have the system, in the order of their installation."""
    return list(_installed)


def stated_section(app: Celery) -> Any:
    """Return the section `sosw` as the app's configuration states it, unchecked; an empty one where there is none.

    Raises:
        ConfigError: It stands in two places, and says different things there.
    """
    given, stated = vars(app).get(_ATTRIBUTE), app.conf.get("sosw")
    if given is None:
        return {} if stated is None else stated
    if stated not in (None, {}, given):
        keys = sorted(stated) if isinstance(stated, Mapping) else kind_of(stated)
        raise ConfigError("app.conf.sosw", keys, "nothing, or what `install(app, config)` was given")
    return given


def section_of(app: Celery) -> Any:
    """Return the section in effect: the stated one, with a local stack that runs here in place of its servers."""
    stated = stated_section(app)  # first: it has the app configured, and so placed
    return vars(app).get(_PLACED, stated)


def place(app: Celery, section: Mapping[str, Any]) -> None:
    """Have a section take effect in place of the stated one."""
    vars(app)[_PLACED] = section


def current() -> Celery:
    """Return the app that is meant where none is named: `scheduler.delay(job)`, or the clients of a labourer.

    Celery's current app if it has the system; else the only one that has; else our own.

    Raises:
        ConfigError: Several apps have the system, and none of them is the current one.
    """
    app: Celery = app_or_default()
    if is_installed(app):
        return app
    others = [one for one in _installed if one is not _ours]
    if len(others) > 1:
        names = ", ".join(str(one.main) for one in others)
        raise ConfigError(
            "the current app", app.main, f"one of those that have the system: {names} (app.set_current())"
        )
    return others[0] if others else ours()


def ours() -> Celery:
    """Return the app `sosw_celery`, which reads its configuration when that is first asked for."""
    global _ours
    with _lock:
        if _ours is None:
            # Making it changes nothing for other apps of a program: what `current_app` is, what Django's threads fall
            # back to (see `Loader.init_worker`), and how their logs look. Celery's commands make it the current one.
            made = Celery("sosw_celery", set_as_current=False, fixups=[], loader=LOADER)
            made.config_from_object(os.environ.get("CELERY_CONFIG_MODULE", "celeryconfig"))
            _ours = install(made)
    return _ours


def __getattr__(name: str) -> Any:
    if name == "app":
        return ours()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _task(app: Celery, make: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Make a function a task, as Celery does; a labourer (`base=Worker`) is one of this app alone.

    What is wrong with a labourer is said at its own line. As with any task, the app is not configured by it.

    Raises:
        ConfigError: The labourer has a name that is not free, or another task has one of the system's.
        TypeError: Its body would never run.
    """
    base: Any = options.get("base")

    def labourer(function: Any) -> Any:
        name = options.get("name") or app.gen_task_name(function.__name__, function.__module__)
        base.check_function(function, {**options, "name": name})
        return make(function, **{"shared": False, **options})

    if hasattr(base, "register_as"):
        return labourer(*args) if args else labourer
    if not hasattr(base, "is_of_system"):
        check_task_name(options.get("name") or "")
    return make(*args, **options)


def _method(app: Celery, name: str) -> Callable[..., Any]:
    """Return a method of the app as it is when it is called: somebody may replace that of its class later."""
    own = vars(app).get(name)
    return own or (lambda *args, **options: getattr(type(app), name)(app, *args, **options))


def _send_task(
    app: Celery,
    send: Callable[..., AsyncResult[Any]],
    name: str,
    args: Any = None,
    kwargs: Any = None,
    *more: Any,
    **options: Any,
) -> AsyncResult[Any]:
    """Send a task by its name, as Celery does; one of the system with the options that it needs."""
    return send(name, args, kwargs, *more, **_bootstrap().options_of(app, name, args, kwargs, options))


def _bugreport(app: Celery) -> str:
    """Return what `celery report` prints, with secrets masked in all settings."""
    text: str = _bootstrap().report_of(app)
    return text


def _on_configured(sender: Celery, **_: object) -> None:
    _bootstrap().configured(sender)


def _on_finalized(sender: Celery, **_: object) -> None:
    _bootstrap().finalized(sender)


def _on_import(sender: Celery, **_: object) -> None:
    """Make this process one of ours, not one of a program that only sends."""
    vars(sender)[_IMPORTED] = True
    _bootstrap().imported(sender)


@celeryd_init.connect(weak=False)
def _on_worker(instance: Any, **_: object) -> None:
    """Do the same in a worker whose loader, written by somebody else, sends no signal about its imports."""
    app = instance.app
    if is_installed(app) and not vars(app).get(_IMPORTED):
        _on_import(app)


def _is_configured(app: Celery) -> bool:
    state: Any = app
    return bool(state.configured)


def _bootstrap() -> Any:
    return importlib.import_module(BOOTSTRAP)
