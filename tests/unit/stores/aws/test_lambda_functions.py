"""Invoking Lambda functions: one request for one call, and every answer is told apart."""

from __future__ import annotations

import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber

from sosw_celery.config.settings import load_settings
from sosw_celery.errors import ConfigError, LambdaFailed, LambdaThrottled
from sosw_celery.stores.aws import lambda_functions
from sosw_celery.stores.aws.lambda_functions import LambdaFunctions

ARN = "arn:aws:lambda:eu-central-1:123456789012:function:resize:prod"


@pytest.fixture
def stubbed(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[LambdaFunctions, Stubber]]:
    """Functions whose client answers as the test says."""
    client = boto3.client("lambda")
    monkeypatch.setattr(lambda_functions.boto3, "client", lambda *_, **__: client)
    with Stubber(client) as stubber:
        yield LambdaFunctions(), stubber


def body(value: bytes) -> StreamingBody:
    """Return a payload as botocore gives it."""
    return StreamingBody(io.BytesIO(value), len(value))


def answered(stubber: Stubber, payload: bytes, **more: Any) -> None:
    """Have the function answer."""
    expected = {"FunctionName": ARN, "InvocationType": "RequestResponse", "Payload": b'{"images": [1, "\\u00e4"]}'}
    metadata = {"RequestId": "request-1", "HTTPStatusCode": 200}
    stubber.add_response(
        "invoke", {"StatusCode": 200, "Payload": body(payload), "ResponseMetadata": metadata, **more}, expected
    )


def invoke(functions: LambdaFunctions) -> Any:
    """Invoke the function."""
    return functions.invoke(ARN, {"images": [1, "ä"]}, timeout_s=5)


@pytest.mark.parametrize(
    ("payload", "answer"),
    [
        (b'{"size": 3}', {"size": 3}),
        (b"null", None),
        (b"", None),
        (b"[1, 2]", [1, 2]),
        (b'"done"', "done"),
        (b"not json", "not json"),
    ],
)
def test_the_answer_is_read_from_json(stubbed: tuple[LambdaFunctions, Stubber], payload: bytes, answer: Any) -> None:
    """Whatever the function returns; what is no JSON is a text."""
    functions, stubber = stubbed
    answered(stubber, payload)
    assert invoke(functions) == answer


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b'{"errorType": "ValueError", "errorMessage": "torn", "stackTrace": []}', "ValueError: torn"),
        (b'{"errorMessage": "Task timed out after 3.00 seconds"}', "Task timed out after 3.00 seconds"),
        (b'{"errorType": "Runtime.ExitError"}', "Runtime.ExitError"),
        (b"null", "None"),
        (b"broken", "broken"),
        (b"{}", "the function failed without a word"),
    ],
)
def test_a_function_error_is_told_with_its_text(
    stubbed: tuple[LambdaFunctions, Stubber], payload: bytes, text: str
) -> None:
    """Type and message of what the function raised, and the request that its log knows it by."""
    functions, stubber = stubbed
    answered(stubber, payload, FunctionError="Unhandled")
    with pytest.raises(LambdaFailed) as failed:
        invoke(functions)
    assert str(failed.value) == f"{text} (request request-1)"


@pytest.mark.parametrize(("header", "after_s"), [({"retry-after": "7"}, 7.0), ({}, None), ({"retry-after": "x"}, None)])
def test_throttling_means_later(
    stubbed: tuple[LambdaFunctions, Stubber], header: dict[str, str], after_s: float | None
) -> None:
    """The function did not run; Lambda may say when to ask again."""
    functions, stubber = stubbed
    stubber.add_client_error(
        "invoke", "TooManyRequestsException", "Rate Exceeded.", 429, response_meta={"HTTPHeaders": header}
    )
    with pytest.raises(LambdaThrottled) as throttled:
        invoke(functions)
    assert throttled.value.after_s == after_s
    assert str(throttled.value) == "the Lambda function was not run (TooManyRequestsException: Rate Exceeded.)"


@pytest.mark.parametrize("code", ["ResourceNotFoundException", "AccessDeniedException", "ServiceException"])
def test_a_refusal_is_a_failure_with_its_code(stubbed: tuple[LambdaFunctions, Stubber], code: str) -> None:
    """The attempt fails as any other; nothing is sent again by botocore."""
    functions, stubber = stubbed
    stubber.add_client_error("invoke", code, "no", 500)
    with pytest.raises(LambdaFailed, match=f"{code}: no"):
        invoke(functions)
    stubber.assert_no_pending_responses()


class Api(BaseHTTPRequestHandler):
    """Lambda's API as far as a socket sees it: counts requests, and does what its server says."""

    def do_POST(self) -> None:
        """Take a request."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(self.path)  # type: ignore[attr-defined]
        self.server.act(self)  # type: ignore[attr-defined]

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An endpoint that botocore takes for Lambda's."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    server.requests, server.daemon_threads = [], True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    server.server_close()


def hang(_: BaseHTTPRequestHandler) -> None:
    """Never answer."""
    threading.Event().wait(5)


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without an answer."""
    handler.connection.shutdown(socket.SHUT_RDWR)


def fail(handler: BaseHTTPRequestHandler) -> None:
    """Answer as Lambda does when it is itself in trouble."""
    text = json.dumps({"Message": "later"}).encode()
    handler.send_response(500)
    handler.send_header("x-amzn-ErrorType", "ServiceException")
    handler.send_header("Content-Length", str(len(text)))
    handler.end_headers()
    handler.wfile.write(text)


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (hang, "TimeoutError: no answer within 0.3 s; it may still run"),
        (hang_up, "ConnectionClosedError"),
        (fail, "ServiceException: later"),
    ],
)
def test_a_request_is_sent_once_whatever_becomes_of_it(
    api: Any, act: Callable[[BaseHTTPRequestHandler], None], text: str
) -> None:
    """No answer, a broken connection, an error of the server: the function may have run, and is not run again."""
    api.act = act
    with pytest.raises(LambdaFailed, match=text):
        LambdaFunctions().invoke(ARN, {}, timeout_s=0.3)
    assert len(api.requests) == 1


def test_lambda_that_cannot_be_reached_means_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection: the function did not run."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", "http://127.0.0.1:9")
    with pytest.raises(LambdaThrottled, match="EndpointConnectionError"):
        LambdaFunctions().invoke(ARN, {}, timeout_s=1)


def test_a_function_is_asked_where_it_stands() -> None:
    """In the region of its ARN, or in the configured one; connections live on between calls."""
    functions = LambdaFunctions("eu-west-3")
    client = functions._client(ARN, 5)
    assert client.meta.region_name == "eu-central-1"
    assert functions._client(ARN, 5) is client
    assert functions._client("resize", 5).meta.region_name == "eu-west-3"
    config = functions._client(ARN, 7).meta.config
    assert (config.read_timeout, config.retries["total_max_attempts"], config.tcp_keepalive) == (7, 1, True)


@pytest.mark.parametrize(
    ("labourer", "key"),
    [
        ({"invoke": "lambda"}, "arn"),
        ({"invoke": "lambda", "arn": ARN, "worker": "my_module:Processor"}, "worker"),
        ({"invoke": "Lambda", "arn": ARN}, "invoke"),
    ],
)
def test_a_labourer_is_one_thing(labourer: dict[str, Any], key: str) -> None:
    """A function without its ARN, or beside a class, is refused at the start."""
    with pytest.raises(ConfigError) as refused:
        load_settings({"labourers": {"resize": labourer}})
    assert refused.value.key == f"sosw.labourers.resize.{key}"
