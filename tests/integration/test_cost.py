"""What a task costs in DynamoDB, by the engine's own account."""

from __future__ import annotations

from pathlib import Path

from benchmarks.aws_cost import measure

TASKS = 500


def test_a_tasks_whole_life_costs_at_most_13_write_units(
    redis_url: str, dynamodb_endpoint: str, table_prefix: str, tmp_path: Path
) -> None:
    """From writing to archive a task takes at most 13 WCU, 2 RCU and 2.5 calls, and scheduling reads nothing."""
    stages = measure(TASKS, redis_url, dynamodb_endpoint, tmp_path.as_uri(), table_prefix)
    assert sum(cost.writes for cost in stages.values()) / TASKS <= 13
    assert sum(cost.reads for cost in stages.values()) / TASKS <= 2
    assert sum(cost.calls for cost in stages.values()) / TASKS <= 2.5
    assert stages["schedule"].reads / TASKS < 0.02
