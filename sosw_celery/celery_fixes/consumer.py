"""The worker's consumer of messages, which no message ends.

Celery's own looks into a message before it knows its shape; what that raises ends the worker, and the message, not
acknowledged, goes to the next one and ends it as well. Here a message is checked first, and one that is not what it
should be is refused: told in one log line without its content, and dropped. The tables know the truth: nothing is lost.

What is no message at all (an item of the queue in Redis that is not JSON) cannot be refused: it breaks the connection's
event loop, and is gone. The node then connects anew, as after a lost connection. Should the loop break for ever, then
messages wait for an idle node, which `sosw-celery health` notices.

A Redis that is demoted and lives on answers as a replica: it takes nothing, and lets go of who waits for a message.
With `broker_channel_error_retry`, a default of the app, Celery connects anew then, and finds the new primary. So such
an answer is never passed over: a message whose acknowledgement was refused counts as one that is at work, and a node
that counts enough of them takes no other.

So does a message whose task did not end, as Celery sees it: the result backend was away when its result was to be
stored, and when the failure of that was. What this raises out of Celery's trace vanishes in a pool of threads
(https://github.com/celery/celery/issues/5642). Here every run ends, by its error if need be.

Seen with celery 5.7 and kombu 5.7. Upstream: https://github.com/celery/celery/issues/7975 and
https://github.com/celery/celery/issues/4308 (messages that end a worker), https://github.com/celery/celery/issues/7946
(a replica's answer). Delete each part when Celery's own consumer passes its test.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any

from billiard.einfo import ExceptionInfo
from celery import signals, states
from celery.app.trace import TraceInfo
from celery.worker import state
from celery.worker.consumer import Consumer

from sosw_celery.core.celery_message import problem_of

__all__ = ["SturdyConsumer"]

logger = logging.getLogger(__name__)


class LoopBroken(ConnectionError):
    """The event loop of the consumer met something that is not a message."""


def _to_its_end(trace: Callable[..., Any]) -> Callable[..., Any]:
    """Return a trace that raises nothing: what Celery's raises is returned as the end of a run that failed."""

    @functools.wraps(trace)
    def traced(*args: Any, **kwargs: Any) -> Any:
        try:
            return trace(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  # Celery logs it, as the error of the task
            return ExceptionInfo(), TraceInfo(states.FAILURE, error), 0.0, None

    return traced


class SturdyConsumer(Consumer):
    """Celery's consumer, behind a check of every message."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        consumer: Any = self
        self._inner_loop: Callable[..., Any] = consumer.loop
        consumer.loop = self._guarded_loop

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """Return what is called with each message."""
        handle = super().create_task_handler(*args, **kwargs)
        if self.app.conf.task_protocol == 1:
            return handle
        passing = self._errors_of_broker()

        def on_task_received(message: Any) -> None:
            problem = self._problem(message)
            if problem is not None:
                self._refuse(message, problem)
                return
            self.note_headers(message.headers)
            try:
                handle(message)
            except passing:
                raise
            except Exception as error:
                logger.exception("message not taken up, it is refused")
                self._forget(message)
                self._refuse(message, type(error).__name__)

        return on_task_received

    def update_strategies(self) -> None:
        """Make for each task what takes up its messages, and what runs it in this very process, to its end."""
        super().update_strategies()
        for task in self.app.tasks.values():
            task.__trace__ = _to_its_end(task.__trace__)

    def on_connection_error_after_connected(self, exc: BaseException) -> None:
        """Let go of a lost connection, so that the next one can be made.

        Celery closes it in order, which fails in kombu's Redis transport when messages are unacknowledged (it wants to
        give them back) and the server is gone; what that raises would end the worker.
        """
        consumer: Any = super()
        try:
            consumer.on_connection_error_after_connected(exc)
        except Exception as error:
            logger.warning("lost connection not closed in order: %r", error, exc_info=True)
            self.connection = None

    def _problem(self, message: Any) -> str | None:
        try:
            # Celery keeps what this decodes; it looks into it next.
            payload = message.payload
        except Exception as error:  # noqa: BLE001  # whatever decoding raises is told in the line about the refusal
            return f"its body cannot be read ({type(error).__name__})"
        return problem_of(message.headers, payload)

    def note_headers(self, headers: Mapping[str, Any]) -> None:
        """Look at the headers of a message that is as it should be, before it is taken up; here nobody does."""

    def _refuse(self, message: Any, problem: str) -> None:
        queue = (message.delivery_info or {}).get("routing_key", "?")
        logger.error("message refused, on %s: %s", queue, problem)
        if not message.acknowledged:
            consumer: Any = self
            message.reject_log_error(logger, consumer.connection_errors)
        signals.task_rejected.send(sender=self, message=message, exc=None)

    @staticmethod
    def _forget(message: Any) -> None:
        """Have the node count no task for a message that was not taken up."""
        request = state.requests.get(message.headers["id"])
        if request is not None and request not in state.active_requests:
            state.task_ready(request)

    def _guarded_loop(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self._inner_loop(*args, **kwargs)
        except self._errors_of_broker():
            raise
        except Exception as error:  # noqa: BLE001  # a traceback would show the item that is no message
            logger.error("event loop broken by %s, connecting anew", type(error).__name__)
            raise LoopBroken(type(error).__name__) from None

    def _errors_of_broker(self) -> tuple[type[Exception], ...]:
        """Return what the broker's client raises when a connection is lost: Celery connects anew then."""
        consumer: Any = self
        return (*consumer.connection_errors, *consumer.channel_errors)
