"""Messages of two systems on one Redis, and how many of them wait: on a real Redis, by kombu's own transport."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery

from sosw_celery.wiring.broker import messages_on, own_keys
from tests.apps import like_ours


@pytest.fixture
def system(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Celery]:
    """Returns the app of a system with this `redis_prefix`."""

    def make(prefix: str | None, **stated: Any) -> Celery:
        section = {} if prefix is None else {"redis_prefix": prefix}
        settings: dict[str, Any] = {"broker_url": redis_url, "result_backend": redis_url, "sosw": section, **stated}
        return like_ours(monkeypatch, f"system {prefix}", **settings)

    return make


def waiting(app: Celery, queue: str) -> int:
    """Return how many messages wait for this system."""
    with app.connection_for_read() as connection:
        return messages_on(connection, queue)


def test_two_systems_on_one_redis_do_not_take_each_others_messages(system: Any, unique: str) -> None:
    """Each has its own messages on queues of the same names, and says rightly how many wait."""
    one, two, plain = (system(prefix) for prefix in (f"one{unique}", f"two{unique}", None))
    for app, messages in ((one, 1), (two, 2), (plain, 3)):
        for _ in range(messages):
            app.send_task("resize", queue=f"resize{unique}", ignore_result=True)
        assert waiting(app, f"resize{unique}") == messages  # of keys without a prefix there are none yet
    assert [waiting(app, f"resize{unique}") for app in (one, two, plain)] == [1, 2, 3]
    assert waiting(one, "never used") == 0
    with one.connection_for_read() as connection, connection.SimpleQueue(f"resize{unique}") as queue:
        queue.get_nowait().ack()
        with pytest.raises(queue.Empty):
            queue.get_nowait()
    assert [waiting(app, f"resize{unique}") for app in (one, two, plain)] == [0, 2, 3]


def test_results_have_a_prefix_of_their_own_as_well(system: Any) -> None:
    """Those of the same id have other keys."""
    keys = [system(prefix).backend.get_key_for_task("id") for prefix in ("one", "two", None)]
    assert keys == [b"one:celery:celery-task-meta-id", b"two:celery:celery-task-meta-id", b"celery-task-meta-id"]


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({"visibility_timeout": 60}, {"visibility_timeout": 60, "global_keyprefix": "one:celery:"}),
        ({"global_keyprefix": ""}, {"global_keyprefix": ""}),
        ({"global_keyprefix": "own", "max_retries": 1}, {"global_keyprefix": "own", "max_retries": 1}),
    ],
)
def test_what_the_configuration_states_stays(system: Any, stated: dict[str, Any], expected: dict[str, Any]) -> None:
    """Other options stay beside the prefix, and a prefix that is stated, none too, is the one that counts."""
    app = system("one", broker_transport_options=stated)
    assert app.conf.broker_transport_options == expected


@pytest.mark.parametrize(
    ("prefix", "address", "is_added"),
    [
        ("one", "rediss://h", True),
        ("one", "redis+socket:///run/r.sock", True),
        ("one", ["sentinel://a", "sentinel://b"], True),
        ("sosw", "redis://h", False),
        ("one", "amqp://h//", False),
        ("one", "sqs://", False),
        ("one", None, False),
        ("one", [], False),
    ],
)
def test_only_keys_in_redis_get_a_prefix(prefix: str, address: Any, is_added: bool) -> None:
    """Where `redis_prefix` is stated; other transports would not understand the option."""
    assert (own_keys(prefix, address, {}) is not None) is is_added


def test_the_environment_says_what_the_broker_is(system: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery takes the address from there, before that of the configuration."""
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://127.0.0.1:1/0")
    assert system("one", broker_url="amqp://h//").conf.broker_transport_options == {"global_keyprefix": "one:celery:"}
