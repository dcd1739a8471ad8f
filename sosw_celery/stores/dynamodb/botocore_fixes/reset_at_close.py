"""Has connections reset when they are closed.

By default the kernel goes on to deliver what it has taken, for minutes. So a row could be written long after its sender
gave up and everybody reckoned with that. A condition on the row does not keep it back: the task may have been closed
meanwhile, and its row gone.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

__all__ = ["reset_at_close"]

#: Has the kernel drop what it has not sent, and reset the connection, when the socket is closed or its process dies.
RESET_AT_CLOSE = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def reset_at_close(client: Any) -> None:
    """Have the client's connections from now on reset when they are closed, those through a proxy too.

    botocore offers one option of sockets, `tcp_keepalive`, and keeps the others in one list, which all pools read.
    """
    session = getattr(getattr(client, "_endpoint", None), "http_session", None)
    options = getattr(session, "_socket_options", None)
    if isinstance(options, list):
        options.append(RESET_AT_CLOSE)
