"""Those who are told of dead tasks: an SNS topic, a webhook, a function of one's own."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from sosw_celery.config.places import found_at
from sosw_celery.core.tasks.alert import Notice
from sosw_celery.errors import StoreError, StoreUnavailable
from sosw_celery.stores.aws_errors import translated
from sosw_celery.text import cut_to_bytes

if TYPE_CHECKING:
    from sosw_celery.config.settings import Settings

__all__ = ["Target", "targets_from"]

#: Tells a notice; returns once it is told, raises if it may not be.
Target = Callable[[Notice], None]

DEFAULT_SUBJECT = "sosw: dead tasks"
#: SNS takes 256 KB.
SNS_BYTES = 250_000


def targets_from(settings: Settings) -> Mapping[str, Target]:
    """Return those whom the settings name, by the names under which the outbox keeps what they are owed."""
    notices, sns = settings.notices, settings.sns_config
    targets: dict[str, Target] = {}
    if sns.recipient:
        targets["sns"] = to_sns(sns.recipient, sns.subject or DEFAULT_SUBJECT, notices.timeout_s)
    if notices.webhook:
        targets["webhook"] = to_webhook(notices.webhook, notices.timeout_s)
    if notices.call:
        targets["call"] = to_function(notices.call)
    return targets


def to_sns(recipient: str, subject: str, timeout_s: float) -> Target:
    """Return the target that publishes to a topic. Connects when it first tells, to the region in the topic's ARN."""

    def tell(notice: Notice) -> None:
        config = Config(connect_timeout=timeout_s, read_timeout=timeout_s, retries={"mode": "standard"})
        client = boto3.client("sns", region_name=recipient.split(":")[3], config=config)
        text = cut_to_bytes(notice.text(), SNS_BYTES)
        with translated("sns", "Publish"):
            client.publish(TopicArn=recipient, Subject=subject, Message=text)

    return tell


def to_webhook(address: str, timeout_s: float) -> Target:
    """Return the target that posts `{"text": ...}`. Its errors do not tell the address, which is a secret."""

    def tell(notice: Notice) -> None:
        body = json.dumps({"text": notice.text()}).encode()
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"}, method="POST")
        try:
            # The configuration allows http and https alone.
            urllib.request.urlopen(request, timeout=timeout_s).close()  # nosec B310
        except urllib.error.HTTPError as error:
            with error:
                raise StoreError("webhook", "post", f"HTTP {error.code}") from None
        except OSError as error:  # no connection, time-outs; URLError is one
            raise StoreUnavailable("webhook", "post", type(getattr(error, "reason", error)).__name__) from None

    return tell


def to_function(function: Callable[[dict[str, Any]], object] | str) -> Target:
    """Return the target that calls a function with the notice as a dict; it is imported when it first tells."""

    def tell(notice: Notice) -> None:
        called = function
        if isinstance(called, str):
            called = found_at("sosw.notices.call", called, "a function that can be imported, as module:function")
        called(notice.as_dict())

    return tell
