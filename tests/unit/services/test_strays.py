"""Jobs that nobody is configured for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sosw_celery.services.strays import stray_jobs

System = Any


def test_unfinished_jobs_of_labourers_that_are_not_configured_are_counted(make_system: Callable[..., System]) -> None:
    """Those that ended, and those of labourers that are there, are not among them; nothing is changed by looking."""
    system = make_system()
    for name, labourer_id in (("a", "renamed"), ("b", "renamed"), ("c", "removed"), ("d", "resize"), ("e", "gone")):
        system.job_of(name, 1, labourer_id=labourer_id)
    system.job_table.client.update_item(
        TableName=system.job_table.tables.jobs,
        Key={"job_id": {"S": "e"}},
        UpdateExpression="REMOVE today",
    )
    assert stray_jobs(system.job_table, system.settings.labourers) == {"renamed": 2, "removed": 1}
    assert stray_jobs(system.job_table, {"renamed", "removed", "resize"}) == {}
    assert stray_jobs(system.job_table, (), limit=1) == {"renamed": 1}
    assert len(system.job_table.unfinished()) == 5
