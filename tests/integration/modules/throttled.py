"""Has DynamoDB throttle what is about the labourer of `TEST_THROTTLED`, while the file `TEST_THROTTLE` is there."""

from __future__ import annotations

import io
import json
import os
from typing import Any

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.endpoint import Endpoint

FILE, LABOURER = os.environ["TEST_THROTTLE"], json.dumps({"S": os.environ["TEST_THROTTLED"]}).encode()

_send = Endpoint._send


def _send_unless_throttled(endpoint: Any, request: AWSPreparedRequest) -> AWSResponse:
    body = request.body
    if isinstance(body, io.BytesIO):
        body = body.getvalue()
    if not isinstance(body, bytes) or LABOURER not in body or not os.path.exists(FILE):
        return _send(endpoint, request)
    with open(FILE, "a") as file:
        file.write("throttled\n")
    answer = json.dumps({"__type": "ThrottlingException", "message": "slow down"}).encode()
    headers = {"x-amzn-RequestId": "1", "Content-Type": "application/x-amz-json-1.0"}
    return AWSResponse(request.url, 400, headers, _Answer(answer))


class _Answer(io.BytesIO):
    def stream(self, *_: Any, **__: Any) -> Any:
        """Give all of it at once."""
        yield self.read()


Endpoint._send = _send_unless_throttled
