"""The Celery app, where `celery -A sosw_celery` looks for it.

Reads the module that `CELERY_CONFIG_MODULE` names, `celeryconfig` by default. What is set below are defaults that keep
the promises of the system; `celeryconfig` may override them, at its own risk where a comment says so.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.app.utils import Settings as CelerySettings
from celery.app.utils import bugreport
from celery.result import AsyncResult
from celery.signals import import_modules

from sosw_celery.celery_fixes.log_privacy import shown_arguments
from sosw_celery.config.masking import masked, secrets_in
from sosw_celery.core.celery_message import SYSTEM_HEADER
from sosw_celery.names import check_labourer_name
from sosw_celery.wiring.broker import own_keys
from sosw_celery.wiring.container import settings_of

__all__ = ["SoswCelery", "app"]

DEFAULTS: dict[str, Any] = {
    # A task is acknowledged after it was closed; a hint that comes twice is refused by the claim.
    "task_acks_late": True,
    # Hints that a busy worker keeps to itself would idle their slots.
    "worker_prefetch_multiplier": 1,
    "worker_disable_prefetch": True,
    # A lost child's task is dispatched again as its next attempt; requeuing the message would loop on a poisoned one.
    "task_reject_on_worker_lost": False,
    "task_serializer": "json",
    "result_serializer": "json",
    "accept_content": ["json"],
    "task_ignore_result": True,
    "task_routes": ["sosw_celery.system.routes:route"],
    # No message ends a worker.
    "worker_consumer": "sosw_celery.celery_fixes.consumer:SturdyConsumer",
    "broker_connection_retry_on_startup": True,
    # No answer of the broker does either: a Redis that was demoted answers so.
    "broker_channel_error_retry": True,
    "result_expires": 86_400,
    "beat_scheduler": "sosw_celery.system.beat:SoswBeat",
}


#: Transport options -> the setting that says where they count, and the variable that Celery puts before it.
ADDRESSES = {
    "broker_transport_options": ("broker_url", "CELERY_BROKER_URL"),
    "result_backend_transport_options": ("result_backend", "CELERY_RESULT_BACKEND"),
}


class SoswCelery(Celery):
    """A Celery app that reads its configuration by our loader, and whose messages keep to themselves what they say."""

    loader_cls = "sosw_celery.system.loading:Loader"

    def on_init(self) -> None:
        """Have our defaults laid under what the configuration states, when it is read."""
        self.add_defaults(self._unstated_defaults)

    if not TYPE_CHECKING:  # Celery's stubs tell which options make what of a function

        def task(self, *args: Any, **options: Any) -> Any:
            """Make a function a task, as Celery does; a labourer (`base=Worker`) at once, and one of this app alone.

            So what is wrong with a labourer is said at its own line, and no other app of the program takes it up.

            Raises:
                ConfigError: The labourer has a name that is not free.
                TypeError: Its body would never run.
            """
            if hasattr(options.get("base"), "register_as"):
                options = {"lazy": False, "shared": False, **options}
                check_labourer_name(options.get("name") or "")
            return super().task(*args, **options)

    def send_task(  # type: ignore[override]  # the stubs spell out all of Celery's options
        self, name: str, args: Any = None, kwargs: Any = None, **options: Any
    ) -> AsyncResult[Any]:
        """Send a task by its name, as Celery does.

        Monitors get the ids in its arguments, and nothing else of them. It says which system it comes from.
        """
        headers = {SYSTEM_HEADER: settings_of(self).system, **(options.pop("headers", None) or {})}
        return super().send_task(name, args, kwargs, headers=headers, **{**shown_arguments(args, kwargs), **options})

    def bugreport(self) -> str:
        """Return what `celery report` prints, with secrets masked in all settings."""
        # Made of no more than is shown now, so that a later Celery cannot show more.
        shown: Any = SimpleNamespace(connection=self.connection, loader=self.loader)
        shown.conf = CelerySettings({}, [self.without_secrets(self.conf.table()), {}])
        return bugreport(shown)

    def without_secrets(self, told: Any) -> Any:
        """Return what tells of the settings with their secrets masked, by whatever names they stand in it."""
        return masked(told, copies_of=frozenset(secrets_in(self.conf.table(censored=False))))

    def _unstated_defaults(self) -> dict[str, Any]:
        """Return our defaults for what the configuration does not state: Celery lays added defaults over it."""
        stated = self.loader.conf
        unstated = {name: value for name, value in DEFAULTS.items() if name not in stated}
        return {**unstated, **_keys_of_its_own(stated)}


def _keys_of_its_own(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that keep messages and results of a system with a `redis_prefix` of its own from others."""
    section = stated.get("sosw")
    prefix = section.get("redis_prefix") if isinstance(section, Mapping) else None
    if not isinstance(prefix, str):
        return {}
    found = {
        name: own_keys(prefix, os.environ.get(variable) or stated.get(address), stated.get(name))
        for name, (address, variable) in ADDRESSES.items()
    }
    return {name: options for name, options in found.items() if options is not None}


def _import_tasks(**_: object) -> None:
    """Make this process one of ours, not one of a program that only sends."""
    importlib.import_module("sosw_celery.celery_fixes.log_privacy").keep_private()
    importlib.import_module("sosw_celery.system.remote").mask_replies()
    importlib.import_module("sosw_celery.system.tasks")
    importlib.import_module("sosw_celery.system.registration").register_configured(app)


def _sign_messages(sender: Celery, **_: object) -> None:
    importlib.import_module("sosw_celery.celery_fixes.signing").sign_messages(sender)


# Importing this changes nothing for the other apps of a program: what `current_app` is, what Django's threads fall back
# to (see `Loader.init_worker`), and how their logs look. The commands of Celery make it the current one themselves.
app = SoswCelery("sosw_celery", set_as_current=False, fixups=[])
# A process that only sends needs no more than the app. What it raises here Celery logs, and then nothing can be sent.
app.on_after_configure.connect(_sign_messages, weak=False)
app.config_from_object(os.environ.get("CELERY_CONFIG_MODULE", "celeryconfig"))
# Not a default of `imports`, which a configuration would replace.
import_modules.connect(_import_tasks, sender=app, weak=False)
