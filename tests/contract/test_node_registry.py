"""The notes of nodes in a real Redis."""

from __future__ import annotations

import redis

from sosw_celery.stores.redis.node_registry import EXPIRE_S, NodeRegistry


def test_notes_are_found_by_name_until_they_expire_or_are_removed(redis_url: str) -> None:
    """All nodes with a note are listed, with its age; one whose note has expired is forgotten."""
    with redis.from_url(redis_url) as client:
        nodes = NodeRegistry(client, prefix="p")
        for name in ("b@host", "a@host", "c@host"):
            nodes.put(name, {"queues": [name]})
        nodes.remove("b@host")
        client.pexpire("p:node:{a@host}", (EXPIRE_S - 30) * 1000)
        client.delete("p:node:{c@host}")
        (found,) = nodes.all()
        assert (found.node, found.note) == ("a@host", {"queues": ["a@host"]})
        assert 29.5 < found.age_s < 35
        assert client.smembers("p:nodes") == {b"a@host"}
        assert 0 < client.ttl("p:node:{a@host}") <= EXPIRE_S


def test_prefixes_keep_systems_apart(redis_url: str) -> None:
    """Nodes of another system on the same Redis are not listed."""
    with redis.from_url(redis_url) as client:
        NodeRegistry(client, prefix="one").put("a@host", {})
        assert NodeRegistry(client, prefix="two").all() == []


def test_a_node_that_missed_three_signs_of_life_is_a_problem_and_serves_nothing(redis_url: str) -> None:
    """Its own rhythm counts; one of an older version, which does not tell it, is held to the default of 5 s."""
    with redis.from_url(redis_url) as client:
        nodes = NodeRegistry(client, prefix="p")
        note = {"queues": ["resize"], "problems": [], "is_stopping": False}
        nodes.put("dead@host", {**note, "heartbeat_s": 5})
        nodes.put("old@host", note)
        nodes.put("slow@host", {**note, "heartbeat_s": 30})
        nodes.put("stopping@host", {**note, "is_stopping": True})
        nodes.put("well@host", note)
        for name in ("dead", "old", "slow"):
            client.pexpire(f"p:node:{{{name}@host}}", (EXPIRE_S - 19) * 1000)
        found = {one.node: one for one in nodes.all()}
        silent = ("no sign of life for 19 s: it is dead, frozen, or cut off from Redis",)
        assert [found[f"{name}@host"].problems for name in ("dead", "old", "slow", "stopping", "well")] == [
            *(silent, silent),
            *((), (), ()),
        ]
        assert [name for name, one in found.items() if "resize" in one.serves] == ["slow@host", "well@host"]
