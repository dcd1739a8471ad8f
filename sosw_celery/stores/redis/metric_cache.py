"""The last reading of each metric, in Redis: one for the whole cluster, whatever number of processes asks.

| key                              | holds                                          | until                        |
| -------------------------------- | ---------------------------------------------- | ---------------------------- |
| `PREFIX:metric:{DIGEST}`         | a hash: the fields below                       | twice the time that it lasts |
| `PREFIX:metric:{DIGEST}:turn`    | who asks the source now                        | it was asked, or some seconds |

| field           | holds                                                                        |
| --------------- | ---------------------------------------------------------------------------- |
| `value`         | what was read last                                                           |
| `read_at`       | when, seconds since the epoch, by Redis' clock                               |
| `feels:DIGEST2` | the eco status that followed, for each way to feel about it                  |
| `failed_at`     | when the source failed last, if it did not answer since                      |
| `problem`       | how it failed                                                                |

`DIGEST` names the source and what it is asked (`Metric.digest`), so labourers with the same metric share its reading.
Whatever of this is lost is read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sosw_celery.core.health import EcoStatus, Reading
from sosw_celery.stores.redis.errors import translated
from sosw_celery.stores.redis.replies import decoded

if TYPE_CHECKING:
    from redis import Redis

__all__ = ["MetricCache"]

FEELS = "feels:"


class MetricCache:
    """Keeps what was read of metrics. Every method raises `StoreUnavailable` when Redis does not answer.

    Parameters:
        redis_client: With or without `decode_responses`. Nothing is sent before the first call.
        prefix: Begins every key.
    """

    def __init__(self, redis_client: Redis, *, prefix: str = "sosw") -> None:
        self._redis = redis_client
        self._prefix = prefix

    def look(self, digests: Iterable[str]) -> dict[str, Reading]:
        """Return what is known of each metric, in one round trip."""
        names = list(dict.fromkeys(digests))
        with translated("look at readings"):
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.time()
            for digest in names:
                pipeline.hgetall(self._key(digest))
            time, *hashes = pipeline.execute()
        now = _seconds(time)
        return {digest: _reading(fields, now) for digest, fields in zip(names, hashes, strict=True)}

    def take_turn(self, digest: str, *, lease_s: float) -> bool:
        """Return whether the caller is the one to ask the source now; nobody else is for `lease_s`."""
        with translated("take turn"):
            taken = self._redis.set(f"{self._key(digest)}:turn", 1, nx=True, px=max(1, round(lease_s * 1000)))
        return bool(taken)

    def end_turn(self, digest: str) -> None:
        """Let others ask the source again."""
        with translated("end turn"):
            self._redis.delete(f"{self._key(digest)}:turn")

    def keep_value(self, digest: str, value: float, statuses: Mapping[str, EcoStatus], *, keep_s: float) -> None:
        """Keep what was read now, and the statuses that follow by `Metric.feelings_digest`, in place of all before."""
        feels = {f"{FEELS}{name}": int(status) for name, status in statuses.items()}
        self._write(digest, {"value": repr(value), **feels}, "read_at", keep_s, afresh=True)

    def keep_failure(self, digest: str, problem: str, *, keep_s: float) -> None:
        """Keep that the source failed now, beside what it said last."""
        self._write(digest, {"problem": problem}, "failed_at", keep_s, afresh=False)

    def _write(self, digest: str, fields: dict[Any, Any], at: str, keep_s: float, *, afresh: bool) -> None:
        key = self._key(digest)
        with translated("keep reading"):
            now = _seconds(self._redis.time())
            pipeline = self._redis.pipeline(transaction=True)
            if afresh:
                pipeline.delete(key)
            fields[at] = f"{now:.6f}"
            pipeline.hset(key, mapping=fields)
            pipeline.pexpire(key, max(1, round(keep_s * 1000)))
            pipeline.execute()

    def _key(self, digest: str) -> str:
        return f"{self._prefix}:metric:{{{digest}}}"


def _reading(fields: Mapping[Any, Any], now: float) -> Reading:
    known = {decoded(name): decoded(value) for name, value in fields.items()}
    feels = {name: value for name, value in known.items() if name.startswith(FEELS)}
    return Reading(
        value=float(known["value"]) if "value" in known else None,
        age_s=_age(known.get("read_at"), now),
        statuses={name.removeprefix(FEELS): EcoStatus(int(value)) for name, value in feels.items()},
        failed_s=_age(known.get("failed_at"), now),
        problem=known.get("problem", ""),
    )


def _age(at: str | None, now: float) -> float | None:
    return None if at is None else max(0.0, now - float(at))


def _seconds(time: Any) -> float:
    seconds, microseconds = time
    return int(seconds) + int(microseconds) / 1_000_000
