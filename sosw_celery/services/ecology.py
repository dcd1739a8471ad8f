"""Tells how healthy a labourer is, and so how many of its attempts may run.

Looking is quick: the last readings are in Redis, one for the whole cluster, and a process keeps what it saw there for a
second. Reading is slow, and so happens in the background: `refresh` has sources asked whose reading is due, each by one
process at a time and in a thread of its own, and does not wait for them.

What counts when there is nothing new:

1. The last reading counts until `grace_s` after the next one was due, whatever the source says meanwhile.
2. Then, and where there never was one, the metric's fallback status counts as long as the source fails.
3. Before it is known whether the source answers (a first start, a flushed Redis, nobody asked for long) nothing new
   starts. That takes no longer than the source has to answer; a process to whom it seems longer takes the fallback.

Running attempts are never touched.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from sosw_celery.config.settings import Settings
from sosw_celery.core.health import EcoStatus, Metric, Reading, is_due, is_lasting, judge, settle, worst
from sosw_celery.errors import StoreError, StoreUnavailable
from sosw_celery.stores.aws.metric_sources import Source, number
from sosw_celery.stores.redis.metric_cache import MetricCache

__all__ = ["Ecology", "Health", "MetricHealth"]

logger = logging.getLogger(__name__)

#: Seconds that a process goes by what it saw in Redis.
LOOK_S = 1.0
#: Seconds beyond its time that a source has before a process stops waiting for a first reading of another process.
PATIENCE_S = 5.0


@dataclass(frozen=True)
class MetricHealth:
    """What one metric says.

    Parameters:
        status: None while it is not known.
        value: The last reading, None if there is none; `age_s` since then.
        problem: How the source failed last, empty if it answered since.
        fallback: The status is the fallback, since there is no reading that counts.
    """

    name: str
    status: EcoStatus | None
    value: float | None
    age_s: float | None
    problem: str
    fallback: bool


@dataclass(frozen=True)
class Health:
    """How healthy a labourer is: as its worst metric says.

    Parameters:
        status: None while a metric is not known; nothing new starts then.
        coefficient: Share of its cap that the labourer has.
    """

    status: EcoStatus | None
    coefficient: float
    metrics: tuple[MetricHealth, ...] = ()


class Ecology:
    """Knows the health of labourers. One object serves all threads of a process.

    Parameters:
        sources: Gives who is asked, by name; called when something is asked.
        recovered: Called with a labourer's id when more of its attempts may run than before.
        background: Has something done without waiting for it.
    """

    def __init__(
        self,
        settings: Settings,
        readings: MetricCache,
        sources: Callable[[], Mapping[str, Source]],
        *,
        recovered: Callable[[str], None],
        monotonic: Callable[[], float] = time.monotonic,
        background: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self._settings = settings
        self._readings = readings
        self._sources = sources
        self._recovered = recovered
        self._monotonic = monotonic
        self._background = background or _in_a_thread
        #: Labourer -> when it was looked at, and what was seen.
        self._seen: dict[str, tuple[float, Health]] = {}
        #: Labourer -> since when its health is not known, and when that was last seen.
        self._unknown: dict[str, tuple[float, float]] = {}
        #: Labourer -> when it was last seen to that its metrics are read.
        self._refreshed: dict[str, float] = {}
        #: Metric -> the thread that asked its source last.
        self._asking: dict[str, threading.Thread] = {}

    def share_of(self, labourer_id: str) -> float:
        """Return the share of its cap that a labourer's health leaves it, 0 to 1.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        has_metrics = self._settings.labourer(labourer_id).health_metrics
        return self.health_of(labourer_id).coefficient if has_metrics else 1.0

    def health_of(self, labourer_id: str) -> Health:
        """Return how healthy the labourer is; asks no source. At most a second old.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        at, health = self._seen.get(labourer_id, (None, None))
        if at is None or health is None or self._monotonic() - at > LOOK_S:
            health = self._look(labourer_id)
            self._seen[labourer_id] = self._monotonic(), health
        return health

    def refresh(self, labourer_ids: Iterable[str] | None = None) -> None:
        """See to it that the metrics of these labourers (None: of all) are read when they are due. Does not wait.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        of_all = self._settings.health_metrics
        for labourer_id in of_all if labourer_ids is None else labourer_ids:
            if labourer_id in of_all and self._is_time_to_refresh(labourer_id):
                self._refresh(of_all[labourer_id])

    def _is_time_to_refresh(self, labourer_id: str) -> bool:
        """Passes may follow each other within milliseconds; each metric's own time is looked up once a second."""
        now, last = self._monotonic(), self._refreshed.get(labourer_id)
        wait_s = min(LOOK_S, *(metric.refresh_s for metric in self._settings.health_metrics[labourer_id]))
        if last is not None and now - last < wait_s:
            return False
        self._refreshed[labourer_id] = now
        return True

    def _refresh(self, metrics: Iterable[Metric]) -> None:
        known = self._readings.look(metric.digest for metric in metrics)
        for metric in metrics:
            lease_s = metric.timeout_s + PATIENCE_S
            if is_due(metric, known[metric.digest]) and self._readings.take_turn(metric.digest, lease_s=lease_s):
                self._background(partial(self._read, metric))

    # ---- looking

    def _look(self, labourer_id: str) -> Health:
        metrics = self._settings.health_metrics.get(labourer_id, ())
        if not metrics:
            return self._health(())
        known = self._readings.look(metric.digest for metric in metrics)
        told = [_told(metric, known[metric.digest]) for metric in metrics]
        if all(one.status is not None for one in told):
            self._unknown.pop(labourer_id, None)
        elif self._has_waited(labourer_id, max(metric.timeout_s for metric in metrics)):
            # Whoever took the turns to read them died each time.
            told = [_given_up(metric, one) for metric, one in zip(metrics, told, strict=True)]
        return self._health(told)

    def _has_waited(self, labourer_id: str, timeout_s: float) -> bool:
        now = self._monotonic()
        since, last = self._unknown.get(labourer_id, (now, now))
        if now - last > PATIENCE_S:  # long ago, and surely known in between
            since = now
        self._unknown[labourer_id] = since, now
        return now - since > timeout_s + PATIENCE_S

    def _health(self, told: Iterable[MetricHealth]) -> Health:
        told = tuple(told)
        statuses = [one.status for one in told if one.status is not None]
        if len(statuses) < len(told):
            return Health(None, 0.0, told)
        status = worst(statuses)
        return Health(status, self._settings.health_coefficients[status], told)

    # ---- reading, in a thread

    def _read(self, metric: Metric) -> None:
        sharing = self._sharing(metric.digest)
        try:
            before = {labourer_id: self._look(labourer_id) for labourer_id in sharing}
            try:
                value = self._ask(metric)
            except StoreError as problem:
                self._keep_failure(metric, problem)
            else:
                self._keep_value(metric, value)
            self._readings.end_turn(metric.digest)
            self._tell(before)
        except Exception:
            # The border of a thread: what was read is lost, and read again when the turn's lease is over.
            logger.exception("ecology.reading_lost metric=%s", metric.name)

    def _ask(self, metric: Metric) -> float:
        """Return what the source says, within the metric's time.

        A source that does not give up is left alone in its thread, and not asked again before it ends.
        """
        previous = self._asking.get(metric.digest)
        if previous is not None and previous.is_alive():
            raise StoreUnavailable(metric.source, "answering", "still busy with the question before")
        answers: queue.SimpleQueue[float | StoreError] = queue.SimpleQueue()
        target = partial(_answer, self._sources, metric, answers)
        thread = threading.Thread(target=target, name="sosw-metric", daemon=True)
        self._asking[metric.digest] = thread
        thread.start()
        try:
            answer = answers.get(timeout=metric.timeout_s)
        except queue.Empty:
            raise StoreUnavailable(metric.source, "answering", f"nothing within {metric.timeout_s:g} s") from None
        # It has answered, so it is busy no more, though its thread may take another moment to end.
        self._asking.pop(metric.digest, None)
        if isinstance(answer, StoreError):
            raise answer
        return answer

    def _keep_value(self, metric: Metric, value: float) -> None:
        sharing = [one for metrics in self._sharing(metric.digest).values() for one in metrics]
        before = self._readings.look([metric.digest])[metric.digest]
        statuses = {
            one.feelings_digest: settle(before.statuses.get(one.feelings_digest), value, one.feelings)
            for one in sharing
        }
        keep_s = 2 * max(one.lasts_s for one in sharing)
        self._readings.keep_value(metric.digest, value, statuses, keep_s=keep_s)

    def _keep_failure(self, metric: Metric, problem: StoreError) -> None:
        reading = self._readings.look([metric.digest])[metric.digest]
        self._readings.keep_failure(metric.digest, str(problem), keep_s=2 * metric.lasts_s)
        if is_lasting(metric, reading):
            left_s = metric.lasts_s - (reading.age_s or 0.0)
            then = f"the last value {reading.value:g} counts for {left_s:.0f} s more"
        else:
            then = f"the fallback status {metric.fallback:d} counts"
        logger.warning("ecology.not_read metric=%s: %s; %s", metric.name, problem, then)

    def _tell(self, before: Mapping[str, Health]) -> None:
        """Log what changed, and have tasks handed out where more may run now."""
        for labourer_id, was in before.items():
            now = self._look(labourer_id)
            self._seen[labourer_id] = self._monotonic(), now
            if now.status != was.status:
                values = ", ".join(f"{one.name}={one.value}" for one in now.metrics)
                statuses = _shown(now.status), _shown(was.status)
                logger.info("ecology.feels labourer_id=%s status=%s was=%s %s", labourer_id, *statuses, values)
            if now.coefficient > was.coefficient:
                self._recovered(labourer_id)

    def _sharing(self, digest: str) -> dict[str, list[Metric]]:
        """Return the labourers that go by a reading, with their metrics that do."""
        found: dict[str, list[Metric]] = {}
        for labourer_id, metrics in self._settings.health_metrics.items():
            for metric in metrics:
                if metric.digest == digest:
                    found.setdefault(labourer_id, []).append(metric)
        return found


def _shown(status: EcoStatus | None) -> str:
    return "unknown" if status is None else str(int(status))


def _told(metric: Metric, reading: Reading) -> MetricHealth:
    status = judge(metric, reading)
    fallback = status is not None and not is_lasting(metric, reading)
    return MetricHealth(metric.name, status, reading.value, reading.age_s, reading.problem, fallback)


def _given_up(metric: Metric, told: MetricHealth) -> MetricHealth:
    if told.status is not None:
        return told
    logger.warning("ecology.nobody_reads metric=%s: the fallback status %d counts", metric.name, metric.fallback)
    return MetricHealth(metric.name, metric.fallback, told.value, told.age_s, "nobody reads it", fallback=True)


def _answer(
    sources: Callable[[], Mapping[str, Source]], metric: Metric, answers: queue.SimpleQueue[float | StoreError]
) -> None:
    try:
        answers.put(number(sources()[metric.source](metric.details, metric.timeout_s)))
    except StoreError as problem:
        answers.put(problem)
    except Exception as problem:
        # The border to code of others: whatever it raises is one more way of not answering.
        logger.warning("ecology.source_raised metric=%s", metric.name, exc_info=True)
        answers.put(StoreError(metric.source, "answering", f"{type(problem).__name__}: {problem}"))


def _in_a_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="sosw-ecology", daemon=True).start()
