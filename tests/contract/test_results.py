"""Results of Celery's tasks, with a real Redis that is demoted and lives on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import redis
from celery import Celery

from sosw_celery.local import RedisServer
from sosw_celery.system.loading import Loader
from tests.faults.injectors.tcp_proxy import LOOPBACK, TcpProxy
from tests.redis_lives import demote, follow

# Celery's own call.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")


@pytest.fixture
def servers() -> Iterator[tuple[RedisServer, RedisServer]]:
    """Two servers that know nothing of each other yet."""
    with RedisServer() as one, RedisServer() as other:
        yield one, other


def app_with(backend: str, loader: str | type[Loader] = Loader) -> Celery:
    """Return an app with a result backend."""
    return Celery("app", backend=backend, loader=loader, set_as_current=False)


@pytest.mark.parametrize("loader", [Loader, "app"])
def test_a_result_is_stored_at_the_new_primary(
    loader: str | type[Loader], servers: tuple[RedisServer, RedisServer]
) -> None:
    """In the same call, by who was connected to the old one; Celery's own backend goes on failing."""
    primary, replica = servers
    with ExitStack() as stack:
        way = stack.enter_context(TcpProxy(primary.port))
        app = stack.enter_context(app_with(f"redis://{LOOPBACK}:{way.port}/0", loader))
        app.backend.store_result("first", 1, "SUCCESS")
        follow(primary, replica)
        demote(primary, replica)
        way.target = replica.port
        if loader == "app":
            for _ in range(3):
                with pytest.raises(redis.ReadOnlyError):
                    app.backend.store_result("second", 2, "SUCCESS")
            return
        app.backend.store_result("second", 2, "SUCCESS")
        assert [app.AsyncResult(name).get(timeout=10) for name in ("first", "second")] == [1, 2]


@pytest.mark.parametrize(
    ("url", "cls"),
    [
        ("redis://127.0.0.1/0", redis.Connection),
        ("rediss://127.0.0.1/0?ssl_cert_reqs=CERT_REQUIRED", redis.SSLConnection),
        ("redis+socket:///tmp/redis.sock", redis.UnixDomainSocketConnection),
    ],
)
def test_what_an_address_says_of_the_connection_stays(url: str, cls: type[redis.Connection]) -> None:
    """TLS and sockets of files are as they were."""
    with app_with(url) as app:
        connection = app.backend.client.connection_pool.make_connection()
        assert isinstance(connection, cls)
