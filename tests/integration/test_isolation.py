"""A labourer in trouble beside others."""

from __future__ import annotations

from collections.abc import Callable

from tests.integration.cluster import ESSENTIALS, Cluster

PATIENCE_S = 60


def test_a_labourer_whose_tables_are_throttled_holds_up_no_other(make_cluster: Callable[..., Cluster]) -> None:
    """Retries of a labourer behind it come back, its tasks are archived and its jobs end, while nothing gets through
    for the first; then the first goes on as well."""
    cluster = make_cluster(labourers={"note": {"max_simultaneous_invocations": 2}, "count": {}}, sweep_jobs_s=1)
    throttle = cluster.directory / "throttle"
    environment = {"TEST_IMPORTS": "throttled", "TEST_THROTTLED": "note", "TEST_THROTTLE": str(throttle)}
    cluster.worker(ESSENTIALS, "-c", "2", **environment)
    cluster.worker("note", "-c", "2")
    cluster.worker("count", "-c", "1")
    cluster.beat()
    slow = cluster.submit({"lambda_name": "note", "isolate_values": True, "values": list(range(30)), "seconds": 1})
    cluster.wait_for(lambda: len(cluster.spans()) >= 4, PATIENCE_S, "tasks of the first labourer")
    throttle.touch()
    cluster.wait_for(lambda: throttle.stat().st_size > 100, PATIENCE_S, "refusals")
    for number in range(3):
        job = {"lambda_name": "count", "isolate_values": True, "values": [1, 2], "manner": "retry"}
        assert cluster.ended(cluster.submit(job), PATIENCE_S).completed == 2, number
    assert cluster.services.job_table.get(slow).state.is_ended is False
    refused = throttle.stat().st_size
    cluster.wait_for(lambda: throttle.stat().st_size > refused, PATIENCE_S, "refusals until the end")
    throttle.unlink()
    assert cluster.ended(slow, PATIENCE_S + 60).completed == 30
