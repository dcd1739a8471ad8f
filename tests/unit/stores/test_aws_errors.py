"""How botocore's errors become ours, whichever service was asked."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ParamValidationError

from sosw_celery.errors import ContentRefused, StoreError, StoreUnavailable
from sosw_celery.stores.aws_errors import translated
from sosw_celery.stores.files.queue_files import _s3


def refused(code: str) -> ClientError:
    """Return what botocore raises for this code of AWS."""
    return ClientError({"Error": {"Code": code, "Message": "canary"}}, "Op")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (refused("ThrottlingException"), StoreUnavailable),
        (refused("AccessDeniedException"), StoreError),
        (refused("ValidationException"), ContentRefused),
        (EndpointConnectionError(endpoint_url="http://x"), StoreUnavailable),
        (ParamValidationError(report="canary"), ContentRefused),
    ],
)
def test_an_error_says_who_was_asked_and_whether_it_may_pass(error: Exception, kind: type[StoreError]) -> None:
    """With the vendor's code, and nothing of the vendor's text."""
    with pytest.raises(StoreError) as told, translated("ssm", "GetParameter"):
        raise error
    assert type(told.value) is kind
    assert str(told.value).startswith("ssm: GetParameter")
    assert "canary" not in str(told.value)


@pytest.mark.parametrize(("code", "kind"), [("SlowDown", StoreUnavailable), ("NoSuchBucket", StoreError)])
def test_s3_has_codes_of_its_own_that_pass(code: str, kind: type[StoreError]) -> None:
    """A bucket that is busy may be asked again; one that is not there may not."""
    block: Any = _s3("get")
    with pytest.raises(StoreError) as told, block:
        raise refused(code)
    assert type(told.value) is kind
