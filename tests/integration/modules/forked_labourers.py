"""A labourer that sends messages, in a node of which a thread is about to connect to the broker whenever it forks."""

from __future__ import annotations

import os
import threading
from typing import Any

from kombu.transport.redis import Channel

from sosw_celery.celery import app
from sosw_celery.labourer.worker import Worker

_lock: Any = vars(Channel)["client"].lock
_let_go = threading.Event()


@app.task(base=Worker, name="tell")
def tell(event: dict[str, Any]) -> dict[str, Any]:
    """Send a message that nobody needs."""
    app.send_task("nobody", queue="nobody", expires=1)
    return {"told": True}


def _hold(held: threading.Event) -> None:
    with _lock:
        held.set()
        _let_go.wait()


def _before_fork() -> None:
    _let_go.clear()
    held = threading.Event()
    threading.Thread(target=_hold, args=(held,), daemon=True).start()
    held.wait()


os.register_at_fork(before=_before_fork, after_in_parent=_let_go.set)
