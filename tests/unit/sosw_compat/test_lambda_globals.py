"""The end of a Lambda function's module, here."""

from __future__ import annotations

from typing import Any

import sosw_celery
from sosw_celery import LambdaGlobals, get_lambda_handler


class Processor:
    """Stands where a class of a user's does."""

    def __init__(self, custom_config: Any = None) -> None:
        self.custom_config = custom_config

    def __call__(self, event: Any) -> Any:
        """Return the event and the configuration."""
        return event, self.custom_config


def test_the_module_of_a_lambda_function_can_be_imported_and_its_handler_called() -> None:
    """The class is made at the first call, as on Lambda, and kept; the context is that of the last call."""
    global_vars = LambdaGlobals()
    handler = get_lambda_handler(Processor, global_vars, {"a": 1})
    assert global_vars.processor is None
    assert handler({"b": 2}, "context") == ({"b": 2}, {"a": 1})
    kept = global_vars.processor
    handler({}, "next")
    assert (global_vars.processor, global_vars.lambda_context) == (kept, "next")
    assert get_lambda_handler(Processor)({"c": 3}) == ({"c": 3}, None)


def test_the_names_are_public() -> None:
    """As those of sosw are."""
    assert {"LambdaGlobals", "get_lambda_handler"} <= set(sosw_celery.__all__)
