"""What of the broker's is asked and set beside messages: how many wait, and which keys a broker in Redis has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kombu import Connection

from sosw_celery.config.settings import Settings

__all__ = ["messages_on", "own_keys"]

#: kombu's option, and Celery's of the result backend, for the beginning of all keys.
KEYPREFIX = "global_keyprefix"
#: Transports and backends that keep keys in Redis.
IN_REDIS = ("redis", "rediss", "sentinel", "valkey", "valkeys")


def messages_on(connection: Connection, queue: str) -> int:
    """Return how many messages wait on a queue; 0 when there is no such queue.

    Redis keeps no empty queue, so there is nothing to make by declaring one; and whether one is there kombu 5.7 asks
    by EXISTS, which forgets `global_keyprefix`: passively declared, no queue would be found.
    """
    passive = connection.transport.driver_type != "redis"
    channel: Any  # the stubs know of no queues
    with connection.channel() as channel:
        try:
            return int(channel.queue_declare(queue=queue, passive=passive).message_count)
        except connection.channel_errors:
            return 0


def own_keys(redis_prefix: str, address: Any, stated: Any) -> dict[str, Any] | None:
    """Return transport options with which two systems on one Redis keep their messages and results apart.

    Parameters:
        redis_prefix: That of the section `sosw`.
        address: Of the broker or result backend, or a list of addresses.
        stated: The options that the configuration states; a `global_keyprefix` among them stays as it is.

    Returns:
        None when there is nothing to add: most have the whole Redis, and queues by the names that Celery gives them.
    """
    if redis_prefix == Settings.model_fields["redis_prefix"].default:
        return None
    first = address[0] if isinstance(address, (list, tuple)) and address else address
    options = stated if isinstance(stated, Mapping) else {}
    if KEYPREFIX in options or not isinstance(first, str) or first.partition(":")[0].partition("+")[0] not in IN_REDIS:
        return None
    return {**options, KEYPREFIX: f"{redis_prefix}:celery:"}
