"""Ends of bodies that Celery cannot tell of, in real worker processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sosw_celery.core.tasks.model import JobState
from tests.integration.cluster import Cluster
from tests.integration.modules.ending_labourers import RESULTS
from tests.nursery import children_of

#: What stands on the row after the first attempt that ended in this manner.
ERRORS = {
    "exit": "SystemExit: bad licence",
    "status": "SystemExit: 3",
    "bound": "Bound: no such price [7]",
    "mute": "Mute: <Mute without a text: RuntimeError>",
    "later": "Later: told so; again in 0.05 s",
    "base": "Ending: over",
    "cancelled": "CancelledError: no more",
}


@pytest.mark.slow
@pytest.mark.parametrize("through", ["direct", "assistant"])
def test_every_end_is_written_as_it_was(make_cluster: Callable[..., Cluster], through: str) -> None:
    """Whatever a body raises, its row says class and text; whatever it returns or counts, its task is completed once.

    Directly, and through the assistant; and whatever it does to the decimal context of its thread.
    """
    entry = {"max_simultaneous_invocations": 3, "close_through": through}
    cluster = make_cluster(labourers={"end": entry})
    cluster.environment["TEST_IMPORTS"] = "ending_labourers"
    cluster.worker()
    cluster.beat()
    node = cluster.worker("end", "-c", "3")
    groups: dict[str, Any] = {manner: {"manner": manner} for manner in (*ERRORS, *RESULTS)}
    job = {"lambda_name": "end", "isolate_groups": True, "groups": groups}
    summary = cluster.ended(cluster.submit(job))
    assert (summary.state, summary.completed) == (JobState.COMPLETED, len(groups))
    closed = {_manner(task.payload): task for task in cluster.closed("end")}
    assert {manner: closed[manner].extra.get("last_error") for manner in ERRORS} == ERRORS
    assert {manner: closed[manner].attempts for manner in groups} == {
        **dict.fromkeys(ERRORS, 2),
        **dict.fromkeys(RESULTS, 1),
    }
    assert {task.extra["stat_('of', 'any', 'key')"] for task in closed.values()} == {1}
    results = {manner: _results(closed[manner].extra) for manner in RESULTS}
    assert results == {
        "pairs": {"result_pairs": {"('a', 'b')": 1}},
        "circle": {"result_value": ["<a circle: the list that this is in>"]},
        "digits": {"result_value": "an integer of 16610 bits"},
        "unreadable": {"result_value": "<Unreadable that cannot be read: RuntimeError>"},
        "unreadable dict": {"result_a": 1},
        "set": {"result_names": {"a", "b"}},
        "classless": {"result_value": "<Classless that cannot be read: RuntimeError>"},
        "leaving": {"result_text": "<Leaving without a text: SystemExit>"},
        "forked": {"result_forked": 1},
    }
    # What a body forked is no process of the pool, and no other one was lost.
    own = children_of(node.pid)
    assert len(own) == 3
    assert [child for process in own for child in children_of(process) if runs(child)] == []


def runs(pid: int) -> bool:
    """Return whether a process has not ended; one that nobody waited for has no program any more."""
    return Path(f"/proc/{pid}/exe").exists()


def _manner(payload: str) -> str:
    return next(manner for manner in (*ERRORS, *sorted(RESULTS, key=len, reverse=True)) if f'"{manner}"' in payload)


def _results(extra: Any) -> dict[str, Any]:
    return {name: value for name, value in extra.items() if name.startswith("result_")}
