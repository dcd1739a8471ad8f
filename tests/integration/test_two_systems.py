"""Systems that share a Redis: one with a `redis_prefix` of its own keeps to itself, and tells of strangers."""

from __future__ import annotations

from collections.abc import Callable

from celery import Celery
from redis import Redis

from tests.integration.cluster import ESSENTIALS, Cluster

STRANGER = {"sosw_system": "staging: s_tasks, s_jobs at AWS"}


def test_a_system_with_a_prefix_keeps_to_itself(make_cluster: Callable[..., Cluster]) -> None:
    """All its keys begin with it, messages on queues of the same names stay for others, and strangers are told of."""
    cluster = make_cluster(redis_prefix="shop", labourers={"note": {"max_simultaneous_invocations": 2}})
    url = cluster.section["redis_url"]
    with Celery("the other system", broker=url, set_as_current=False) as other, Redis.from_url(url) as client:
        for queue in ("note", *ESSENTIALS.split(",")):
            other.send_task("of the other system", queue=queue)

        def others() -> dict[bytes, list[bytes]]:
            keys = [key for key in client.scan_iter() if not key.startswith(b"shop:")]
            return {key: client.lrange(key, 0, -1) if client.type(key) == b"list" else [] for key in keys}

        before = others()
        node = cluster.worker(f"note,{ESSENTIALS}", "-c", "3")
        cluster.beat()
        cluster.ended(cluster.submit({"lambda_name": "note", "isolate_values": True, "values": list(range(10))}))
        for _ in range(2):
            cluster.app.send_task("note", [{}], queue="note", headers=STRANGER)
        cluster.wait_for(lambda: "staging: s_tasks" in cluster.log(node), 20, "a word about the stranger")
        assert others() == before
    assert len(cluster.closed("note")) == 10
    assert cluster.log(node).count("messages of another system come in") == 1
