"""Looks at the slots of a run while nothing has gone wrong yet, and writes down what is seen, as the processes do."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from sosw_celery.errors import StoreError
from sosw_celery.stores.redis.errors import translated
from sosw_celery.wiring.container import Services
from tests.faults.evidence import Look

__all__ = ["keep_looking", "looks_in"]

#: Seconds between two looks. Each costs two calls of Redis for each labourer.
EVERY_S = 0.05


def keep_looking(services: Services, labourer_ids: Iterable[str], path: Path, end: threading.Event) -> None:
    """Write down how the slots stand, again and again until the end.

    Raises:
        StoreError: Redis did not answer, and it was not the end yet.
    """
    with path.open("a") as file:
        while not end.wait(EVERY_S):
            try:
                looks = [_look(services, labourer_id) for labourer_id in labourer_ids]
            except StoreError:
                if end.is_set():  # the fault that ends this may have struck Redis
                    return
                raise
            file.writelines(f"{json.dumps(dataclasses.asdict(look))}\n" for look in looks)


def looks_in(path: Path) -> list[Look]:
    """Return what was written down."""
    return [Look(**json.loads(line)) for line in path.read_text().splitlines()]


def _look(services: Services, labourer_id: str) -> Look:
    usage = services.slots.look(labourer_id)
    with translated("look"):
        # `begin_sweep` would tell it too, but drops leases that ran out: whoever looks must not help.
        lapses = services.redis.hget(f"{services.settings.redis_prefix}:{{{labourer_id}}}:state", "lapses")
    return Look(labourer_id, time.monotonic(), usage.pending, usage.running, usage.standby, int(lapses or 0))
