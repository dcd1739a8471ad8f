"""Clusters of real processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cluster import Cluster
from tests.nursery import Nursery


@pytest.fixture
def make_cluster(
    tmp_path: Path, nursery: Nursery, redis_url: str, dynamodb_endpoint: str, table_prefix: str
) -> Iterator[Callable[..., Cluster]]:
    """Builds a cluster with a `sosw` section of one's own; no process runs yet."""
    clusters: list[Cluster] = []

    def make(**section: Any) -> Cluster:
        clusters.append(Cluster(tmp_path, nursery, redis_url, dynamodb_endpoint, table_prefix, **section))
        return clusters[-1]

    yield make
    for cluster in clusters:
        cluster.stop()
