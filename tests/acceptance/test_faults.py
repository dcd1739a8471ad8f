"""The fault runs in short: leases and outages of a few seconds, most kinds of faults, several in each run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.kinds import KINDS
from tests.faults.plan import SHORT, Fault, JobPlan, Plan, make_plan
from tests.faults.report import line_of
from tests.faults.run import PROCESSES, carry_out
from tests.nursery import Nursery

pytestmark = [
    *(pytest.mark.slow, pytest.mark.timeout(200), pytest.mark.usefixtures("_nothing_left_for_other_tests")),
    # Of what Celery has in the process of the test when Redis goes away.
    pytest.mark.filterwarnings("ignore:.*<socket.socket:pytest.PytestUnraisableExceptionWarning"),
]

#: Seeds, and what goes wrong in their runs.
RUNS = {
    1: ("worker node killed", "scheduler killed at a point", "beat killed"),
    2: ("Redis emptied", "worker child killed at a point", "orchestrator killed"),
    3: ("worker node frozen", "messages doubled", "messages dropped"),
    4: ("rolling deploy, SIGTERM", "Redis connections cut", "DynamoDB connections cut"),
    5: ("DynamoDB errors after the write", "DynamoDB throttled", "S3 answers lost"),
    6: ("Redis back with an old snapshot", "orchestrator killed at a point", "worker child killed"),
    7: ("DynamoDB stopped", "worker node killed at a point", "DynamoDB index lags"),
    8: ("clock fast", "clock of Redis jumps ahead", "clock slow"),
    9: (
        "worker node suspended",
        "Redis fail-over, the old primary lives on",
        "a scheduler throttled beside a fast one",
    ),
    10: ("worker node cut off from Redis", "Redis fail-over", "all worker nodes killed"),
}

#: One worker serves all labourers, and two have one each.
FEWER = {**PROCESSES, "worker": 3}


@pytest.mark.parametrize("seed", RUNS, ids=lambda seed: " + ".join(RUNS[seed]))
def test_every_promise_is_kept(nursery: Nursery, tmp_path: Path, seed: int) -> None:
    """Whatever goes wrong: nothing is lost, closed twice or over the cap, and slots are in use again."""
    available = {kind.name for kind in KINDS}
    plan = make_plan(seed, SHORT, KINDS, [name for name in RUNS[seed] if name in available])
    outcome = carry_out(plan, nursery, tmp_path / "run", processes=FEWER)
    assert outcome.kept, line_of(outcome)
    assert not outcome.crashes, line_of(outcome)


@pytest.mark.parametrize("place", ["after TaskTable.claim", "before Worker._make_ready"])
def test_a_node_that_stands_still_between_claim_and_body_begins_no_body(
    nursery: Nursery, tmp_path: Path, place: str
) -> None:
    """When it goes on, its slot is another's by now: the attempt is dropped before its first line."""
    groups = {"fine": {"values": list(range(60))}}
    definition = {"lambda_name": "note", "isolate_values": True, "seconds": 0.8, "groups": groups}
    frozen = Fault("worker node frozen at a point", 0.0, "0/0", place)
    plan = Plan(0, SHORT, [frozen], [JobPlan("a", definition, 60, (0,))])
    outcome = carry_out(
        plan, nursery, tmp_path / "run", processes={"scheduler": 1, "orchestrator": 1, "worker": 3, "beat": 1}
    )
    assert outcome.kept, line_of(outcome)
    assert [fault.happened for fault in outcome.faults] == [True]
