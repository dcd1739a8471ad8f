"""What a process of a worker finishes before it ends: the last events of the tasks' history."""

from __future__ import annotations

from celery.signals import worker_process_shutdown, worker_shutdown

from sosw_celery.celery import installed
from sosw_celery.wiring.container import has_services, services_of

__all__: list[str] = []


@worker_process_shutdown.connect(weak=False)
@worker_shutdown.connect(weak=False)
def write_history(**_: object) -> None:
    """Have the events that wait in this process written; a child of a pool ends without Python's own clean-up."""
    for app in installed():
        if has_services(app):
            services_of(app).flush_history()
