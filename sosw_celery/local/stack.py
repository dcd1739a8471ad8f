"""The servers of one machine together, and the environment that makes processes use them."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from sosw_celery.local.servers import LOOPBACK, DynamoServer, RedisServer, Server, is_running
from sosw_celery.local.stack_place import DATA_VARIABLE, STATE_FILE

__all__ = ["LocalStack", "environment_of"]

REDIS_VARIABLE = "SOSW_REDIS_URL"
DYNAMODB_VARIABLE = "SOSW_DYNAMODB_ENDPOINT"
QUEUE_VARIABLE = "SOSW_QUEUE_BUCKET"
# For the engine on this machine, which takes any.
AWS_STAND_INS = {
    **dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "local"),
    "AWS_DEFAULT_REGION": "eu-west-1",
}

REDIS_DIR = "redis"
DYNAMODB_DIR = "dynamodb"
QUEUE_DIR = "queue"


class LocalStack:
    """Redis, DynamoDB and a place for queue files on this machine, while the `with` block runs.

    Where `SOSW_REDIS_URL` or `SOSW_DYNAMODB_ENDPOINT` is set, that server is used and none is started for it. The
    tables are not made here.

    Parameters:
        data_dir: Where everything is kept, so that a later stack on the same directory goes on where this one stood,
            however it ended, and at the same ports where they are free. None: nothing is kept.
    """

    def __init__(self, data_dir: Path | str | None = None) -> None:
        self.data_dir = Path(data_dir).resolve() if data_dir is not None else None
        self.redis_url = ""
        self.dynamodb_endpoint = ""
        self.queue_bucket = ""
        self._servers: list[Server] = []
        self._owner_pid = 0
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def start(self) -> None:
        """Have all servers running and answering.

        Raises:
            ServerFailed: One did not start, or `data_dir` belongs to a stack that runs; none is left running.
            EngineMissing: A server's program is not on this machine and cannot be fetched.
        """
        self._owner_pid = os.getpid()
        try:
            self._make_queue_dir()
            self._start_redis()
            self._start_dynamodb()
            self._remember()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Have the servers ended that were started here. May be called twice.

        A fork of the process that started them stops nothing: they are not the fork's own.
        """
        if os.getpid() != self._owner_pid:
            return
        while self._servers:
            self._servers.pop().stop()
        if self._temporary:
            self._temporary.cleanup()
            self._temporary = None

    def __enter__(self) -> LocalStack:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def environment(self) -> dict[str, str]:
        """Return the variables, to be added to a process's own, that make `celeryconfig.py` use this stack.

        AWS credentials and a region are made up where none are set: the clients want some, the engine takes any.
        """
        place = {} if self.data_dir is None else {DATA_VARIABLE: str(self.data_dir)}
        return {**place, **self._addresses(), **_client_needs()}

    def _addresses(self) -> dict[str, str]:
        return {
            REDIS_VARIABLE: self.redis_url,
            DYNAMODB_VARIABLE: self.dynamodb_endpoint,
            QUEUE_VARIABLE: self.queue_bucket,
        }

    def _make_queue_dir(self) -> None:
        if self.data_dir is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="sosw-celery-")
            base = Path(self._temporary.name)
        else:
            base = self.data_dir
        queue_dir = base / QUEUE_DIR
        queue_dir.mkdir(parents=True, exist_ok=True)
        self.queue_bucket = queue_dir.as_uri()

    def _start_redis(self) -> None:
        self.redis_url = os.environ.get(REDIS_VARIABLE, "")
        if not self.redis_url:
            server = RedisServer(self._place(REDIS_DIR), port=self._port_before(REDIS_VARIABLE))
            self._run(server)
            self.redis_url = server.url

    def _start_dynamodb(self) -> None:
        self.dynamodb_endpoint = os.environ.get(DYNAMODB_VARIABLE, "")
        if not self.dynamodb_endpoint:
            server = DynamoServer(self._place(DYNAMODB_DIR), port=self._port_before(DYNAMODB_VARIABLE))
            self._run(server)
            self.dynamodb_endpoint = server.endpoint

    def _run(self, server: Server) -> None:
        server.start()
        self._servers.append(server)

    def _place(self, name: str) -> Path | None:
        return self.data_dir / name if self.data_dir else None

    def _port_before(self, variable: str) -> int | None:
        address = _remembered(self.data_dir).get(variable, "") if self.data_dir else ""
        return urlsplit(address).port

    def _remember(self) -> None:
        """Let other processes find this stack by its directory, see `environment_of`."""
        if self.data_dir is None:
            return
        state = self.data_dir / STATE_FILE
        draft = state.with_suffix(".new")
        draft.write_text(json.dumps(self._addresses(), indent=2) + "\n")
        os.replace(draft, state)


def environment_of(data_dir: Path | str) -> dict[str, str] | None:
    """Return `LocalStack.environment()` of the stack that runs on `data_dir` in any process; None when none runs."""
    data_dir = Path(data_dir)
    if not any(is_running(data_dir / name) for name in (REDIS_DIR, DYNAMODB_DIR)):
        return None
    addresses = _remembered(data_dir)
    return {DATA_VARIABLE: str(data_dir.resolve()), **addresses, **_client_needs()} if addresses else None


def _remembered(data_dir: Path) -> dict[str, str]:
    """Return what the last stack on `data_dir` told about itself; empty when there was none."""
    try:
        state: dict[str, str] = json.loads((data_dir / STATE_FILE).read_text())
    except FileNotFoundError:
        return {}
    return state


def _client_needs() -> dict[str, str]:
    """Return what this process's environment lacks for AWS clients to reach an engine on loopback."""
    needs = {name: value for name, value in AWS_STAND_INS.items() if name not in os.environ}
    if any(name in os.environ for name in ("http_proxy", "HTTP_PROXY")):
        name = "no_proxy" if "no_proxy" in os.environ else "NO_PROXY"
        needs[name] = ",".join(filter(None, (os.environ.get(name), LOOPBACK)))
    return needs
