"""What connects the parts with Celery and the servers."""

from __future__ import annotations

from celery import Celery

from sosw_celery.wiring import services_of


def test_a_queue_without_messages_has_none() -> None:
    """Redis keeps no empty queue, and kombu calls one that is not there an error."""
    app = Celery("wiring", broker="memory://", set_as_current=False)
    app.conf.sosw = {"labourers": {"note": {}}}
    services = services_of(app)
    assert services._depth("note") == 0
    app.send_task("note", queue="note")
    assert services._depth("note") == 1
