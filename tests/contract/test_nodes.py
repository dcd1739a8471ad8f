"""The notes of nodes in a real Redis."""

from __future__ import annotations

import redis

from sosw_celery.stores.nodes import EXPIRE_S, Nodes


def test_notes_are_found_by_name_until_they_expire_or_are_removed(redis_url: str) -> None:
    """All nodes with a note are listed, with its age; one whose note has expired is forgotten."""
    with redis.from_url(redis_url) as client:
        nodes = Nodes(client, prefix="p")
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
        Nodes(client, prefix="one").put("a@host", {})
        assert Nodes(client, prefix="two").all() == []
