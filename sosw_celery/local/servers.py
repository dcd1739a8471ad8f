"""Server processes on free loopback ports, each as a context manager.

A server without `data_dir` keeps its data in memory, in a new directory of its own that goes with it: it finds no file
of anybody's and leaves none behind. With one, what it acknowledged is there again when the next server is started on
the same directory, even after a kill -9 of everything; see `supervise`.
"""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, ClassVar, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from sosw_celery.errors import SoswError
from sosw_celery.local import engines, supervise

__all__ = ["LOOPBACK", "DynamoServer", "RedisServer", "Server", "ServerFailed", "is_running"]

LOOPBACK = "127.0.0.1"
START_TIMEOUT_S = 20.0
PROBE_TIMEOUT_S = 0.5
STOP_TIMEOUT_S = 10.0
POLL_S = 0.005
# Between the choice of a free port and the server's bind another process may take it: then another port is tried.
START_ATTEMPTS = 5
LOG_TAIL_BYTES = 500


class ServerFailed(SoswError):
    """A server did not start.

    Parameters:
        server: Which one.
        reason: What its log says, or who uses its data.
    """

    def __init__(self, server: str, reason: str) -> None:
        super().__init__(server, reason)
        self.server, self.reason = server, reason

    def __str__(self) -> str:
        return f"{self.server} did not start: {self.reason}"


class Server:
    """A server process that ends with the process that started it, whatever ends that.

    Parameters:
        data_dir: Where it keeps its data; made when missing. None: in memory.
        port: The port to take when it is free; else, and when None, any free one.
    """

    name: ClassVar[str]

    def __init__(self, data_dir: Path | None = None, port: int | None = None) -> None:
        self.data_dir = data_dir.resolve() if data_dir else None
        self.port = port or 0
        self.pid = 0
        self._supervisor: subprocess.Popen[str] | None = None
        self._log: IO[bytes] | None = None
        self._open_files = ExitStack()
        self._owner_pid = 0

    def start(self) -> None:
        """Have the server running and answering at `port`, as process `pid`.

        Raises:
            ServerFailed: It ended by itself, does not answer in time, or its data is in use by another owner.
            EngineMissing: Its program is not on this machine.
        """
        if self.data_dir:
            self.data_dir.mkdir(parents=True, exist_ok=True)
        self._owner_pid = os.getpid()
        wanted = self.port
        for attempt in range(START_ATTEMPTS):
            self.port = wanted if attempt == 0 and wanted and _is_free(wanted) else _free_port()
            try:
                self._launch()
                self._await_answer()
            except ServerFailed:
                taken = "in use" in self._log_tail().lower()
                self.stop()
                if not taken or attempt == START_ATTEMPTS - 1:
                    raise
            except BaseException:
                self.stop()
                raise
            else:
                return

    def stop(self) -> None:
        """Have the server ended; its data is where it was. Does nothing when it does not run, or in a fork."""
        if os.getpid() != self._owner_pid:
            return
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.terminate()
            try:
                supervisor.communicate(timeout=STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                supervisor.kill()
                supervisor.communicate()
        self._log = None
        self._open_files.close()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def command(self) -> list[str]:
        """Return the command line that serves `port`."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Return whether this server, and no other process, answers at `port`."""
        raise NotImplementedError

    def _launch(self) -> None:
        # The supervisor removes a directory of the server's own, so that it goes with an owner that is killed too.
        directory = self.data_dir or Path(tempfile.mkdtemp(prefix=f"sosw-celery-{self.name}-"))
        place = "--data-dir" if self.data_dir else "--scratch-dir"
        self._log = self._open_files.enter_context(self._new_log())
        self._supervisor = subprocess.Popen(
            [sys.executable, "-I", "-S", supervise.__file__, place, str(directory), "--", *self.command()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=directory,
            # Ctrl-C in the terminal is for the owner, who stops the servers when their users are done.
            start_new_session=True,
        )
        assert self._supervisor.stdout is not None
        first_line = self._supervisor.stdout.readline()
        if not first_line:
            raise self._failure()
        self.pid = int(first_line)

    def _new_log(self) -> IO[bytes]:
        if self.data_dir:
            return (self.data_dir / "server.log").open("wb+")
        return cast(IO[bytes], tempfile.TemporaryFile())

    def _await_answer(self) -> None:
        assert self._supervisor is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.answers():
            if self._supervisor.poll() is not None:
                raise self._failure()
            if time.monotonic() > deadline:
                raise ServerFailed(self.name, f"no answer within {START_TIMEOUT_S:g} s; {self._log_tail()}")
            time.sleep(POLL_S)

    def _failure(self) -> ServerFailed:
        assert self._supervisor is not None
        if self._supervisor.wait() == supervise.EXIT_IN_USE and self.data_dir:
            owner = (self.data_dir / supervise.OWNER_LOCK).read_text()
            return ServerFailed(self.name, f"{self.data_dir} is used by process {owner}")
        return ServerFailed(self.name, self._log_tail() or f"exit status {self._supervisor.returncode}")

    def _log_tail(self) -> str:
        if self._log is None:
            return ""
        # The server writes at the position that it shares with us: moving it to read would scramble its lines.
        size = os.fstat(self._log.fileno()).st_size
        tail = os.pread(self._log.fileno(), LOG_TAIL_BYTES, max(0, size - LOG_TAIL_BYTES))
        return " ".join(tail.decode(errors="replace").split())


class RedisServer(Server):
    """A real Redis. In memory nothing is written; with `data_dir` every write goes to an append-only file."""

    name = "redis"

    @property
    def url(self) -> str:
        """The address for clients, database 0."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    def command(self) -> list[str]:
        """Return redis-server with all it needs on the command line; no configuration file is read."""
        keep = "yes" if self.data_dir else "no"
        options = {
            "bind": LOOPBACK,
            "port": str(self.port),
            "protected-mode": "yes",
            "dir": ".",
            "save": "",
            "appendonly": keep,
            "loglevel": "warning",
        }
        return [str(engines.redis_server()), *(word for key, value in options.items() for word in (f"--{key}", value))]

    def answers(self) -> bool:
        """Return whether the Redis at `port` is ours and has loaded its data."""
        client = redis.Redis(
            host=LOOPBACK, port=self.port, socket_timeout=PROBE_TIMEOUT_S, retry=Retry(NoBackoff(), retries=0)
        )
        try:
            return bool(client.ping()) and client.info("server")["process_id"] == self.pid
        except (redis.ConnectionError, redis.TimeoutError):  # not there yet, or loading
            return False
        finally:
            client.close()


class DynamoServer(Server):
    """A DynamoDB engine: dynoxide, or moto's server as a stand-in, with a warning, where dynoxide is not to be had."""

    name = "dynamodb"

    @property
    def endpoint(self) -> str:
        """The address for clients."""
        return f"http://{LOOPBACK}:{self.port}"

    def start(self) -> None:
        """Have the engine running; see `Server.start`. Warns when it is only a stand-in."""
        self._engine = engines.dynamodb_engine()
        if self._engine.shortfall:
            warnings.warn(self._engine.shortfall, RuntimeWarning, stacklevel=2)
        super().start()

    def command(self) -> list[str]:
        """Return the engine with its port and, where it can keep data, the file for it."""
        engine = self._engine
        command = [*engine.command, engine.host_flag, LOOPBACK, "--port", str(self.port)]
        if self.data_dir and engine.data_flag:
            command += [engine.data_flag, str(self.data_dir / "tables.db")]
        return command

    def answers(self) -> bool:
        """Return whether the engine has written that it listens at `port`, and something answers there."""
        if self.endpoint not in self._log_tail():
            return False
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=PROBE_TIMEOUT_S)
        try:
            connection.request("GET", "/")
            connection.getresponse()
        except OSError:
            return False
        finally:
            connection.close()
        return True


def is_running(data_dir: Path) -> bool:
    """Return whether a server with a live owner keeps its data in `data_dir`."""
    try:
        lock = (data_dir / supervise.OWNER_LOCK).open("r+")
    except FileNotFoundError:
        return False
    with lock:
        return not supervise.try_lock(lock)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: connections that are still closing do not keep the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
