"""Has requests to AWS go wrong inside the process that imports this, as `aws_rules` of the test say.

Stands at the one place where botocore hands a request to its HTTP session. botocore's events would do the same, but
they are registered client by client; here every client is met, whenever and by whomever it was made. What is answered
or raised here goes through botocore's own parsers and retries like what comes from the network, and handlers of
`before-send` have run before.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.endpoint import Endpoint
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError, ReadTimeoutError

from tests.faults.injectors.aws_rules import DIRECTORY, SEED, Fault, Rule, RulesInForce

__all__ = ["install"]

Send = Callable[[], AWSResponse]

#: Code and status by which DynamoDB and S3 say it.
ERRORS = {
    "dynamodb": {
        Fault.THROTTLED: ("ProvisionedThroughputExceededException", 400),
        Fault.REQUEST_LIMIT: ("RequestLimitExceeded", 400),
        Fault.THROTTLING: ("ThrottlingException", 400),
        Fault.CONFLICT: ("TransactionConflictException", 400),
        Fault.ERROR_BEFORE: ("InternalServerError", 500),
        Fault.ERROR_AFTER: ("InternalServerError", 500),
    },
    "s3": {
        Fault.THROTTLED: ("SlowDown", 503),
        Fault.REQUEST_LIMIT: ("SlowDown", 503),
        Fault.THROTTLING: ("SlowDown", 503),
        Fault.ERROR_BEFORE: ("InternalError", 500),
        Fault.ERROR_AFTER: ("InternalError", 500),
    },
}
#: How a transaction that failed so tells it, item by item.
REASONS = {
    Fault.THROTTLED: "ProvisionedThroughputExceeded",
    Fault.THROTTLING: "ThrottlingError",
    Fault.CONFLICT: "TransactionConflict",
}
AFTER = frozenset({Fault.ERROR_AFTER, Fault.RESET_AFTER, Fault.TIMEOUT_AFTER})
#: What can only happen to some operations.
ONLY = {
    Fault.CONFLICT: frozenset({"PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems"}),
    Fault.UNPROCESSED: frozenset({"BatchWriteItem", "BatchGetItem", "BatchExecuteStatement"}),
    Fault.STALE: frozenset({"Query"}),
}
S3_OPERATIONS = {"PUT": "PutObject", "GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}


def install(rules: RulesInForce) -> None:
    """Have the rules strike the requests of all clients of this process and of those that it forks."""
    send = Endpoint._send

    def struck(endpoint: Any, request: AWSPreparedRequest) -> AWSResponse:
        service = endpoint._endpoint_prefix
        for rule in rules.of(service):
            operation = operation_of(service, request)
            if strikes(rule, operation, request, rules.chance):
                rules.note(rule.fault, operation)
                return strike(rule, service, operation, request, rules.chance, lambda: send(endpoint, request))
        return send(endpoint, request)

    Endpoint._send = struck


def operation_of(service: str, request: AWSPreparedRequest) -> str:
    """Return what the request asks for, by the name that boto3's documents have for it."""
    if service == "s3":
        query = parse_qs(urlsplit(request.url).query, keep_blank_values=True)
        return "ListObjectsV2" if "list-type" in query else S3_OPERATIONS.get(request.method, request.method)
    target = request.headers.get("X-Amz-Target", b"")
    return (target.decode() if isinstance(target, bytes) else target).rpartition(".")[2]


def strikes(rule: Rule, operation: str, request: AWSPreparedRequest, chance: random.Random) -> bool:
    """Return whether the rule is for this request and meets it."""
    return (
        (not rule.operations or operation in rule.operations)
        and operation in ONLY.get(rule.fault, {operation})
        and (not rule.header or rule.header in request.headers)
        and (not rule.nodes or os.environ.get("TEST_NODE") in rule.nodes)
        and (not rule.labourer_id or names(request, rule.labourer_id))
        and time.monotonic() < rule.until
        and chance.random() < rule.share
        and (rule.fault is not Fault.STALE or _has_twin(rule, request))
    )


def names(request: AWSPreparedRequest, labourer_id: str) -> bool:
    """Return whether a request has the labourer as a value, alone or with the status of its tasks."""
    return re.search(rb'"S": ?"' + re.escape(labourer_id.encode()) + rb'(_\d)?"', _body(request)) is not None


def strike(
    rule: Rule, service: str, operation: str, request: AWSPreparedRequest, chance: random.Random, send: Send
) -> AWSResponse:
    """Return or raise what the caller gets instead of the answer."""
    if rule.fault is Fault.STALE:
        _rewrite(request, lambda content: {**content, "TableName": rule.twins[content["TableName"]]})
        return send()
    if rule.fault is Fault.UNPROCESSED and operation == "BatchExecuteStatement":
        return _execute_a_part(rule, request, chance, send)
    if rule.fault is Fault.UNPROCESSED:
        return _do_a_part(rule, operation, request, chance, send)
    if rule.fault in AFTER:
        send().content  # noqa: B018  # reads the answer to its end, so that the connection can be used again
    time.sleep(rule.wait_s)
    if rule.fault in (Fault.RESET_BEFORE, Fault.RESET_AFTER):
        cut = ConnectionResetError(104, "Connection reset by peer")
        raise ConnectionClosedError(error=cut, request=request, endpoint_url=request.url)
    if rule.fault in (Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER):
        raise ReadTimeoutError(endpoint_url=request.url, error="Read timed out.")
    if rule.fault is Fault.REFUSED:
        raise EndpointConnectionError(endpoint_url=request.url, error="[Errno 111] Connection refused")
    if operation == "TransactWriteItems" and rule.fault in REASONS:
        return _cancelled(request, REASONS[rule.fault], chance)
    code, status = ERRORS[service][rule.fault]
    return _answer_s3(request, status, code) if service == "s3" else _answer(request, status, _error(code))


def _has_twin(rule: Rule, request: AWSPreparedRequest) -> bool:
    content = json.loads(_body(request))
    return "IndexName" in content and content["TableName"] in rule.twins


def _do_a_part(
    rule: Rule, operation: str, request: AWSPreparedRequest, chance: random.Random, send: Send
) -> AWSResponse:
    """Send some of a batch and answer that the others are left over; none at all is sent as nothing."""
    asked: dict[str, Any] = json.loads(_body(request))["RequestItems"]
    is_write = operation == "BatchWriteItem"
    taken: dict[str, Any] = {}
    left: dict[str, Any] = {}
    for table, wanted in asked.items():
        items = wanted if is_write else wanted["Keys"]
        chosen = [chance.random() < rule.share for _ in items]
        for parts, keep in ((taken, False), (left, True)):
            if part := [item for item, is_left in zip(items, chosen, strict=True) if is_left is keep]:
                parts[table] = part if is_write else {**wanted, "Keys": part}
    name = "UnprocessedItems" if is_write else "UnprocessedKeys"
    answered: dict[str, Any] = {} if is_write else {"Responses": {}}
    if taken:
        _rewrite(request, lambda content: {**content, "RequestItems": taken})
        answer = send()
        if answer.status_code != 200:
            return answer
        answered = json.loads(answer.content)
    for table, part in answered.get(name, {}).items():
        left.setdefault(table, []).extend(part)
    return _answer(request, 200, {**answered, name: left})


def _execute_a_part(rule: Rule, request: AWSPreparedRequest, chance: random.Random, send: Send) -> AWSResponse:
    """Send some of a batch's statements and answer that the others were throttled; none at all is sent as nothing."""
    asked: list[Any] = json.loads(_body(request))["Statements"]
    is_left = [chance.random() < rule.share for _ in asked]
    done: Iterator[Any] = iter(())
    if taken := [statement for statement, left in zip(asked, is_left, strict=True) if not left]:
        _rewrite(request, lambda content: {**content, "Statements": taken})
        answer = send()
        if answer.status_code != 200:
            return answer
        done = iter(json.loads(answer.content)["Responses"])
    throttled = {"Error": {"Code": "ThrottlingError", "Message": "injected"}}
    return _answer(request, 200, {"Responses": [throttled if left else next(done) for left in is_left]})


def _cancelled(request: AWSPreparedRequest, reason: str, chance: random.Random) -> AWSResponse:
    """Return the answer of a transaction that failed for one of its items, chosen by chance."""
    items = json.loads(_body(request))["TransactItems"]
    reasons: list[dict[str, str]] = [{"Code": "None"} for _ in items]
    chance.choice(reasons).update(Code=reason, Message="injected")
    listed = ", ".join(entry["Code"] for entry in reasons)
    message = f"Transaction cancelled, please refer cancellation reasons for specific reasons [{listed}]"
    content = _error("TransactionCanceledException") | {"Message": message, "CancellationReasons": reasons}
    return _answer(request, 400, content)


def _error(code: str) -> dict[str, Any]:
    return {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "injected"}


def _answer(request: AWSPreparedRequest, status: int, content: dict[str, Any]) -> AWSResponse:
    return _response(request, status, "application/x-amz-json-1.0", json.dumps(content))


def _answer_s3(request: AWSPreparedRequest, status: int, code: str) -> AWSResponse:
    content = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>injected</Message></Error>'
    return _response(request, status, "application/xml", "" if request.method == "HEAD" else content)


class _Raw(io.BytesIO):
    """What urllib3 gives for an answer's body."""

    def stream(self, size: int = 1 << 16) -> Iterator[bytes]:
        while chunk := self.read(size):
            yield chunk


def _response(request: AWSPreparedRequest, status: int, kind: str, text: str) -> AWSResponse:
    body = text.encode()
    headers = {"Content-Type": kind, "Content-Length": str(len(body)), "x-amzn-RequestId": "INJECTED"}
    return AWSResponse(request.url, status, headers, _Raw(body))


def _body(request: AWSPreparedRequest) -> bytes:
    return request.body.getvalue() if isinstance(request.body, io.BytesIO) else bytes(request.body)


def _rewrite(request: AWSPreparedRequest, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change what a request says. The engines of tests do not check signatures.

    A body that somebody watches over while it is read (`sent_only_if`) stays the object that it is.
    """
    content = json.dumps(change(json.loads(_body(request)))).encode()
    if isinstance(request.body, io.BytesIO):
        request.body.seek(0)
        request.body.truncate()
        request.body.write(content)
        request.body.seek(0)
    else:
        request.body = content
    request.headers["Content-Length"] = str(len(content))


if DIRECTORY in os.environ:
    install(RulesInForce(Path(os.environ[DIRECTORY]), os.environ[SEED]))
