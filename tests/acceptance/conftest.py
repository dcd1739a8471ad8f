"""What the acceptance tests share: desks of users, and a machine on which everything can run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.shell import Desk, Shell


@pytest.fixture(autouse=True)
def _can_run_everything(redis_server: object, dynamodb_server: object) -> None:
    """Say where an engine is missing, or what the tests look into."""
    if not sys.platform.startswith("linux"):
        pytest.skip("looks into /proc")


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """An empty directory of a user's."""
    return Shell(tmp_path / "project")


@pytest.fixture
def own_desk(tmp_path: Path) -> Iterator[Desk]:
    """A desk at which nothing is up yet."""
    found = Desk(tmp_path / "desk")
    yield found
    found.end()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A desk at which everything is up."""
    found = Desk(tmp_path_factory.mktemp("desk"))
    try:
        found.up()
        yield found
    finally:
        found.end()
