"""Counts calls to DynamoDB on their way: a proxy in front of the engine, so that no call of any process is missed."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections import Counter
from types import TracebackType
from urllib.parse import urlsplit

__all__ = ["CallCounter"]

#: The header that names the operation; botocore writes it into the first packet of a request.
OPERATION = re.compile(rb"x-amz-target: *DynamoDB_\d+\.(\w+)\r", re.IGNORECASE)
CHUNK_BYTES = 1 << 16
#: Longer than the header: what may have been cut off at the end of a chunk is looked at again with the next one.
OVERLAP_BYTES = 100


class CallCounter:
    """Forwards to an endpoint and counts by operation, in the background, while the `with` block runs."""

    def __init__(self, endpoint: str) -> None:
        address = urlsplit(endpoint)
        assert address.hostname is not None
        assert address.port is not None
        self._target = (address.hostname, address.port)
        self._calls: Counter[str] = Counter()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self.endpoint = ""

    def __enter__(self) -> CallCounter:
        self._thread.start()
        if not self._ready.wait(10):
            raise SystemExit("the counting proxy did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join()

    def calls(self) -> Counter[str]:
        """Return how often each operation was called until now."""
        return self._calls.copy()

    def count(self, data: bytes) -> bytes:
        """Count the calls that the data names, and return what has to stand before the data that follows."""
        end = 0
        for found in OPERATION.finditer(data):
            self._calls[found[1].decode()] += 1
            end = found.end()
        return data[max(end, len(data) - OVERLAP_BYTES) :]

    async def _serve(self) -> None:
        self._loop, self._done = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._done.wait()
        server.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_engine, to_engine = await asyncio.open_connection(*self._target)
        # Connections that are open at the end are cancelled; asyncio would print a traceback for each.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(
                self._forward(reader, to_engine, count=True), self._forward(from_engine, writer, count=False)
            )

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, count: bool) -> None:
        seen = b""
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):  # a peer may end it at any time
            while chunk := await reader.read(CHUNK_BYTES):
                if count:
                    seen = self.count(seen + chunk)
                writer.write(chunk)
                await writer.drain()
