"""Beat as real processes: `celery -A sosw_celery beat`, two of them, on real servers."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

#: Seconds between two ticks of the test's scheduled job.
EVERY_S = 2

TICK_SENT = re.compile(r"beat\.tick_sent entry=pulse job_id=(pulse@(\S+)Z)")


def ticks_sent(log: str) -> dict[str, datetime]:
    """Return the job ids that a beat sent, with their planned times."""
    return {job_id: datetime.fromisoformat(planned) for job_id, planned in TICK_SENT.findall(log)}


def test_two_beats_make_one_job_of_each_tick(make_cluster: Callable[..., Any]) -> None:
    """Two beats send the same ticks; each becomes one job with its tasks once; when one is killed, no tick is lost."""
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
    second.terminate()
    second.wait(20)

    by_both = ticks_sent(cluster.log(first)).keys() & ticks_sent(cluster.log(second)).keys()
    sent = ticks_sent(cluster.log(first)) | ticks_sent(cluster.log(second))
    assert by_both
    assert {after - before for before, after in pairwise(sorted(sent.values()))} == {timedelta(seconds=EVERY_S)}
    for job_id in sent:
        assert cluster.ended(job_id).completed == 2
    assert Counter(task.job_id for task in cluster.closed("note")) == dict.fromkeys(sent, 2)
