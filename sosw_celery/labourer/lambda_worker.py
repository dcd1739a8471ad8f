"""The labourer that is an AWS Lambda function: its Celery task invokes the function and closes by its answer.

The configuration alone makes one, `"labourers": {"resize": {"invoke": "lambda", "arn": "arn:aws:lambda:..."}}`; then
`celery -A sosw_celery worker -Q resize` invokes the function for each of its tasks.
"""

from __future__ import annotations

from typing import Any

from sosw_celery.errors import LambdaThrottled, RetryLater
from sosw_celery.labourer.worker import Worker
from sosw_celery.wiring.container import services_of

__all__ = ["LambdaWorker"]

#: Seconds before a throttled task is tried again, doubled with each attempt, where Lambda does not say.
THROTTLED_S = 10.0
#: Seconds before the end of `duration` when waiting for an answer ends, so that the error can still say so. A process'
#: first call makes its client, which may take most of a second.
MARGIN_S = 2.0


class LambdaWorker(Worker):
    """Base of the labourers whose entry says `invoke: lambda`."""

    abstract = True

    def run(self, event: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Invoke the function with the payload and the task's ids, and return its answer.

        Raises:
            RetryLater: It was throttled: it did not run.
            LambdaFailed: It failed, or its answer is not known.
        """
        services = services_of(self.app)
        task = self._run_now().task
        labourer = services.settings.labourer(self.name)
        ids = {"task_id": task.task_id, "labourer_id": task.labourer_id, "job_id": task.job_id}
        facts = {"attempts": task.attempts, "created_at": float(task.created_at)}
        # As in sosw: what the row says wins over an entry of the payload with the same name.
        event = {**event, **ids, **facts}
        timeout_s = max(labourer.duration_s - MARGIN_S, labourer.duration_s / 2)
        try:
            return services.lambda_functions.invoke(
                services.settings.labourers[self.name].arn, event, timeout_s=timeout_s
            )
        except LambdaThrottled as throttled:
            raise RetryLater(self._wait_s(throttled, task.attempts), str(throttled)) from throttled

    def _wait_s(self, throttled: LambdaThrottled, attempts: int) -> float:
        if throttled.after_s is not None:
            return throttled.after_s
        longest = services_of(self.app).settings.labourer(self.name).retry_policy.backoff_max_s
        return min(THROTTLED_S * float(2 ** min(attempts - 1, 32)), longest)
