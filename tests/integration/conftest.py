"""Clusters of real processes."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.nursery import Nursery

# Tests are found by importlib, which gives their directory no name; the helper module gets one here.
if "cluster" not in sys.modules:
    _spec = importlib.util.spec_from_file_location("cluster", Path(__file__).with_name("cluster.py"))
    assert _spec is not None
    assert _spec.loader is not None
    sys.modules["cluster"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["cluster"])


@pytest.fixture
def make_cluster(
    tmp_path: Path, nursery: Nursery, redis_url: str, dynamodb_endpoint: str, table_prefix: str
) -> Iterator[Callable[..., Any]]:
    """Builds a cluster with a `sosw` section of one's own; no process runs yet."""
    from cluster import Cluster

    clusters: list[Cluster] = []

    def make(**section: Any) -> Cluster:
        clusters.append(Cluster(tmp_path, nursery, redis_url, dynamodb_endpoint, table_prefix, **section))
        return clusters[-1]

    yield make
    for cluster in clusters:
        cluster.stop()
