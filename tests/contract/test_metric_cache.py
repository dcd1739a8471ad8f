"""Readings of metrics, on the twin of Redis and on a real one."""

from __future__ import annotations

import time

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from sosw_celery.core.health import EcoStatus, Reading
from sosw_celery.errors import StoreUnavailable
from sosw_celery.stores.redis.metric_cache import MetricCache


@pytest.fixture
def readings(slots_redis: redis.Redis) -> MetricCache:
    """Nothing was read yet."""
    return MetricCache(slots_redis)


def test_what_was_read_is_what_all_see(readings: MetricCache) -> None:
    """The value to its last digit, the statuses, and how old it is."""
    readings.keep_value("m", 0.1 + 0.2, {"f": EcoStatus.GOOD, "g": EcoStatus.BAD}, keep_s=60)
    reading = readings.look(["m", "other", "m"])
    assert reading["other"] == Reading()
    assert reading["m"].value == 0.1 + 0.2
    assert reading["m"].statuses == {"f": EcoStatus.GOOD, "g": EcoStatus.BAD}
    assert reading["m"].age_s is not None
    assert 0 <= reading["m"].age_s < 5
    assert (reading["m"].failed_s, reading["m"].problem) == (None, "")


def test_a_failure_stands_beside_the_last_value_until_the_source_answers(readings: MetricCache) -> None:
    """It takes nothing away; the next value takes it away."""
    readings.keep_value("m", 1, {"f": EcoStatus.GOOD}, keep_s=60)
    readings.keep_failure("m", "away", keep_s=60)
    failed = readings.look(["m"])["m"]
    assert (failed.value, failed.problem, failed.failed_s is not None) == (1, "away", True)
    readings.keep_value("m", 2, {}, keep_s=60)
    answered = readings.look(["m"])["m"]
    assert (answered.value, answered.statuses, answered.problem, answered.failed_s) == (2, {}, "", None)


def test_readings_are_forgotten_after_their_time(readings: MetricCache, slots_redis: redis.Redis) -> None:
    """Metrics that left the configuration leave nothing behind."""
    readings.keep_value("m", 1, {}, keep_s=60)
    readings.keep_failure("n", "away", keep_s=30)
    assert all(0 < slots_redis.ttl(key) <= 60 for key in slots_redis.scan_iter())


def test_one_at_a_time_asks_a_source(readings: MetricCache) -> None:
    """The turn is one process' until it ends it, or its time is over."""
    assert readings.take_turn("m", lease_s=60)
    assert not readings.take_turn("m", lease_s=60)
    assert readings.take_turn("n", lease_s=60)
    readings.end_turn("m")
    assert readings.take_turn("m", lease_s=0.05)
    end = time.monotonic() + 5
    while not readings.take_turn("m", lease_s=60):
        assert time.monotonic() < end


def test_looking_at_nothing_asks_nothing(readings: MetricCache) -> None:
    """No metric, no reading."""
    assert readings.look([]) == {}


def test_a_redis_that_is_away_is_said_to_be() -> None:
    """Its error becomes ours."""
    client = redis.Redis(port=1, retry=Retry(NoBackoff(), 0))
    for call in (
        lambda away: away.look(["m"]),
        lambda away: away.take_turn("m", lease_s=1),
        lambda away: away.end_turn("m"),
        lambda away: away.keep_value("m", 1, {}, keep_s=1),
    ):
        with pytest.raises(StoreUnavailable):
            call(MetricCache(client))
