"""What a task costs in DynamoDB, by the engine's own account."""

from __future__ import annotations

from pathlib import Path

from benchmarks.aws_cost import costs, total

TASKS, QUEUED = 500, 2000


def test_a_tasks_whole_life_costs_at_most_13_write_units(
    redis_url: str, dynamodb_endpoint: str, tmp_path: Path
) -> None:
    """From writing to archive a task takes at most 13 WCU, 2 RCU and 2.5 calls, and scheduling reads nothing."""
    for stages in costs(TASKS, QUEUED, redis_url, dynamodb_endpoint, tmp_path):
        cost = total(stages)
        assert cost.writes / TASKS <= 13
        assert cost.reads / TASKS <= 2
        assert cost.calls / TASKS <= 2.5
        assert stages["schedule"].reads / TASKS < 0.02


def test_in_lines_a_task_takes_one_call_less(redis_url: str, dynamodb_endpoint: str, tmp_path: Path) -> None:
    """Its close and the claim of the next one are one call, of as many units."""
    apart, _ = costs(TASKS, 1, redis_url, dynamodb_endpoint, tmp_path)
    in_lines, _ = costs(TASKS, 1, redis_url, dynamodb_endpoint, tmp_path, in_lines=True)
    assert total(in_lines).calls <= total(apart).calls - 0.9 * TASKS
    assert abs(total(in_lines).writes - total(apart).writes) <= 0.1 * TASKS


def test_behind_a_long_queue_a_task_costs_no_more(redis_url: str, dynamodb_endpoint: str, tmp_path: Path) -> None:
    """Behind 2,000 queued tasks, and with a history, a task takes no more units and calls than it takes alone."""
    alone, behind = map(total, costs(TASKS, QUEUED, redis_url, dynamodb_endpoint, tmp_path))
    assert behind.writes <= alone.writes + 0.1 * TASKS
    assert behind.reads <= alone.reads + 0.1 * TASKS
    assert behind.calls <= alone.calls + 0.1 * TASKS
