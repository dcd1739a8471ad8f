"""The two names at the end of a Lambda function's module in sosw, so that one file serves both while it moves.

    global_vars = LambdaGlobals()
    lambda_handler = get_lambda_handler(Processor, global_vars)

Under Celery nothing calls the handler: a labourer is its class. By hand it calls the class, as a unit test does.

Source: `sosw.app`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["LambdaGlobals", "get_lambda_handler"]


class LambdaGlobals:
    """What sosw keeps for the life of a Lambda's container: the processor, and the context of the last call."""

    def __init__(self) -> None:
        self.processor: Any = None
        self.lambda_context: Any = None


def get_lambda_handler(
    processor_class: Callable[..., Any],
    global_vars: LambdaGlobals | None = None,
    custom_config: Mapping[str, Any] | None = None,
) -> Callable[..., Any]:
    """Return a function of an event and a context that calls the class with the event, made at the first call.

    No task is claimed or closed by that.
    """
    kept = LambdaGlobals() if global_vars is None else global_vars

    def lambda_handler(event: Any, context: Any = None) -> Any:
        kept.lambda_context = context
        if kept.processor is None:
            kept.processor = processor_class(custom_config=custom_config)
        return kept.processor(event)

    return lambda_handler
