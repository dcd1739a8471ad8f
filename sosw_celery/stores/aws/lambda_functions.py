"""AWS Lambda functions, invoked so that one call is at most one run of the function."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from sosw_celery.errors import LambdaFailed, LambdaThrottled
from sosw_celery.stores.aws_errors import error_code

__all__ = ["LambdaFunctions"]

#: Codes that say "not now"; the function did not run.
THROTTLED_CODES = frozenset(
    {
        "TooManyRequestsException",
        "EC2ThrottledException",
        "ENILimitReachedException",
        "ResourceConflictException",
        "ResourceNotReadyException",
        "SnapStartNotReadyException",
        "ThrottlingException",
    }
)

#: Seconds until a connection has to stand.
CONNECT_S = 5.0
#: Functions that one process may wait for at once, with threads.
CONNECTIONS = 200


class LambdaFunctions:
    """Invokes functions. Safe to share between threads; connects when it first invokes.

    Parameters:
        region_name: Of functions that are named without an ARN.
    """

    def __init__(self, region_name: str | None = None) -> None:
        self._region_name = region_name
        self._clients: dict[tuple[str | None, float], Any] = {}
        self._lock = threading.Lock()

    def invoke(self, function: str, event: Mapping[str, Any], *, timeout_s: float) -> Any:
        """Run a function with the event and return its answer, read from JSON; an answer that is none is a text.

        The request is sent once, whatever becomes of it: the function may not bear a second run.

        Parameters:
            function: ARN, with a version or an alias if wanted, or name.
            timeout_s: Seconds that it may take.

        Raises:
            LambdaThrottled: It did not run, because it may not now, or Lambda cannot be reached.
            LambdaFailed: It ran and failed, or it may have run and its answer is not known, or it cannot be run at all.
        """
        try:
            answer = self._client(function, timeout_s).invoke(
                FunctionName=function, InvocationType="RequestResponse", Payload=json.dumps(event).encode()
            )
            payload = answer["Payload"].read()
        except ClientError as error:
            raise _refused(error) from error
        except (EndpointConnectionError, ConnectTimeoutError) as error:
            raise LambdaThrottled(None, type(error).__name__) from error
        except ReadTimeoutError as error:
            raise LambdaFailed("TimeoutError", f"no answer within {timeout_s:g} s; it may still run") from error
        except BotoCoreError as error:
            raise LambdaFailed(type(error).__name__, str(error)) from error
        if "FunctionError" in answer:
            raise _failed(payload, answer["ResponseMetadata"].get("RequestId", ""))
        return _read(payload)

    def _client(self, function: str, timeout_s: float) -> Any:
        region = function.split(":")[3] if function.startswith("arn:") else self._region_name
        with self._lock:
            if (region, timeout_s) not in self._clients:
                self._clients[region, timeout_s] = boto3.client(
                    "lambda", region_name=region, config=_client_config(timeout_s)
                )
            return self._clients[region, timeout_s]


def _client_config(timeout_s: float) -> Config:
    return Config(
        retries={"total_max_attempts": 1, "mode": "standard"},
        connect_timeout=CONNECT_S,
        read_timeout=timeout_s,
        max_pool_connections=CONNECTIONS,
        # Nothing travels while a function runs: without signs of life, NAT gateways forget the connection after 350 s.
        tcp_keepalive=True,
    )


def _refused(error: ClientError) -> LambdaThrottled | LambdaFailed:
    code = error_code(error)
    message = str(error.response.get("Error", {}).get("Message", ""))
    if code not in THROTTLED_CODES:
        return LambdaFailed(code, message)
    after = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("retry-after", "")
    return LambdaThrottled(float(after) if after.isdecimal() else None, f"{code}: {message}")


def _failed(payload: bytes, request_id: str) -> LambdaFailed:
    answer = _read(payload)
    if not isinstance(answer, Mapping):
        return LambdaFailed("", str(answer), request_id)
    return LambdaFailed(str(answer.get("errorType") or ""), str(answer.get("errorMessage") or ""), request_id)


def _read(payload: bytes) -> Any:
    text = payload.decode(errors="replace")
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text
