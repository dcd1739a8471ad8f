"""The settings of notices about dead tasks: `sns_config`, which can be pasted from sosw, and `notices`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from sosw_celery.config.base import Section

__all__ = ["NoticesConfig", "SnsConfig"]


class SnsConfig(Section):
    """The SNS topic that is told of dead tasks (sosw's `sns_config`)."""

    #: ARN of the topic; empty: no notices go to SNS.
    recipient: str = Field("", pattern=r"^$|^arn:[a-z-]+:sns:[a-z0-9-]+:\d*:[A-Za-z0-9_.-]+$")
    #: Subject of the mails that SNS makes of the notices; none: `sosw: dead tasks`.
    subject: str = ""

    @field_validator("subject")
    @classmethod
    def _sns_takes_it(cls, value: str) -> str:
        if len(value) > 100 or not value.isascii() or not (value == "" or value.isprintable()):
            raise ValueError("at most 100 printable ASCII characters, as SNS takes them")
        return value


class NoticesConfig(Section):
    """When notices are sent, and who gets them beside SNS. None are sent when nobody gets them."""

    #: Seconds between two notices; one notice names all tasks that died meanwhile.
    every_s: float = Field(60, ge=1, le=86_400)
    #: Address that gets a POST of `{"text": ...}`, as Slack and others take it. Keep it secret.
    webhook: str | None = None
    #: A function, or its dotted path `module:function`, that is called with the notice as a dict.
    call: Callable[[dict[str, Any]], object] | str | None = None
    #: Tasks that one notice names; the others are only counted.
    max_tasks: int = Field(20, ge=0, le=100)
    #: Seconds that a webhook or SNS has to answer.
    timeout_s: float = Field(10, gt=0, le=30)

    @field_validator("webhook")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is not None:
            url = urlsplit(value)
            if url.scheme not in ("http", "https") or not url.hostname:
                raise ValueError("an address that begins with https:// or http://")
        return value

    @field_validator("call")
    @classmethod
    def _is_a_path(cls, value: Callable[[dict[str, Any]], object] | str | None) -> Any:
        if isinstance(value, str) and not all(value.partition(":")):
            raise ValueError("a function, or its dotted path module:function")
        return value
