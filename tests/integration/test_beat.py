"""Beat as real processes: `celery -A sosw_celery beat`, two of them, on real servers."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

#: Seconds between two ticks of the test's scheduled job.
EVERY_S = 2

TICK_SENT = re.compile(r"beat\.tick_sent entry=pulse job_id=(pulse@(\S+)Z)")


def ticks_sent(log: str) -> dict[str, datetime]:
    """Return the job ids that a beat sent, with their planned times."""
    return {job_id: datetime.fromisoformat(planned) for job_id, planned in TICK_SENT.findall(log)}


@pytest.mark.slow
def test_two_beats_make_one_job_of_each_tick(make_cluster: Callable[..., Any]) -> None:
    """Each tick of two beats becomes one job with its tasks once; when one beat is killed, the other goes on."""
    job = {"lambda_name": "note", "isolate_groups": True, "groups": ["a", "b"]}
    cluster = make_cluster(
        labourers={"note": {"max_simultaneous_invocations": 2}},
        scheduled_jobs={"pulse": {"schedule": EVERY_S, "job": job}},
    )
    cluster.worker()
    cluster.worker("note", "-c", "2")
    beats = []
    for name in ("one", "two"):
        cluster.environment["TEST_BEAT_FILE"] = str(cluster.directory / name)  # as on two machines
        beats.append(cluster.beat())
    first, second = beats

    cluster.wait_for(lambda: all(len(ticks_sent(cluster.log(beat))) >= 2 for beat in beats), 60, "two ticks of each")
    os.killpg(first.pid, signal.SIGKILL)
    seen = len(ticks_sent(cluster.log(second)))
    cluster.wait_for(lambda: len(ticks_sent(cluster.log(second))) >= seen + 2, 60, "ticks of the other beat")

    by_both = ticks_sent(cluster.log(first)).keys() & ticks_sent(cluster.log(second)).keys()
    sent = ticks_sent(cluster.log(first)) | ticks_sent(cluster.log(second))
    assert by_both
    assert all(planned.second % EVERY_S == 0 and planned.microsecond == 0 for planned in sent.values())
    for job_id in sent:  # the other beat still runs: archiving is one of its sweeps
        assert cluster.ended(job_id).completed == 2
    closed = Counter(task.job_id for task in cluster.closed("note"))
    assert {job_id: closed[job_id] for job_id in sent} == dict.fromkeys(sent, 2)
