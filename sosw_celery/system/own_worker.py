"""What Celery has to do otherwise in a worker that takes messages of ours and no others.

It is set on the worker, and on the settings of its process: an app's other workers have what the app says. Our own app
states the same as defaults, which its configuration may override.
"""

from __future__ import annotations

from typing import Any

from celery.signals import worker_init

from sosw_celery.celery import is_installed, is_ours
from sosw_celery.celery_fixes.log_privacy import keep_private
from sosw_celery.celery_fixes.signing import AUTH
from sosw_celery.labourer.serving import Serves, serves
from sosw_celery.system.defaults import DEFAULTS
from sosw_celery.system.routes import is_private

__all__ = ["BOTH_KINDS", "make_ours"]

#: Those of our defaults that are a worker's.
OF_WORKERS = (
    "worker_disable_prefetch",
    "broker_connection_retry_on_startup",
    "broker_channel_error_retry",
    "accept_content",
)

#: What a worker that serves other tasks as well says of itself.
BOTH_KINDS = (
    "this worker serves other tasks beside labourers: it keeps its settings, so slots may idle while messages wait in "
    "it; give labourers and the system workers of their own"
)


@worker_init.connect(weak=False)
def make_ours(sender: Any = None, **_: object) -> None:
    """Have a worker of ours alone take one message for each process, and be ended by none.

    Where it serves ours at all, its log holds nothing of what our tasks are called with.
    """
    app = sender.app
    if not is_installed(app) or is_ours(app) or serves(app) is Serves.THEIRS:
        return
    keep_private(is_private)
    if serves(app) is Serves.BOTH:
        return
    sender.prefetch_multiplier = DEFAULTS["worker_prefetch_multiplier"]
    sender.consumer_cls = DEFAULTS["worker_consumer"]
    settings = {name: DEFAULTS[name] for name in OF_WORKERS}
    if app.conf.task_serializer == AUTH:  # then that alone is accepted
        del settings["accept_content"]
    app.conf.update(settings)
