"""Runs one server for as long as the process that asked for it lives. Started as a script of its own.

    python supervise.py [--data-dir DIR | --scratch-dir DIR] -- PROGRAM ARGUMENT...

Standard input is a pipe from the owner and is never written to: that it ends is how the owner's death shows, on every
system and whatever killed it. A parent that is another than at the start shows it too, should a fork of the owner hold
the pipe open. On standard output stands the server's process id, once it runs.

Two locks in DIR tell who uses the data. The supervisor holds `owner.lock`; the server inherits `server.lock`, so that
it is held exactly while the server lives, even after its supervisor was killed. Who finds `owner.lock` free and
`server.lock` held has found a leftover, ends it and takes over. Locks end with their holders, so none can be stale.

A scratch directory is removed when the server has ended.

Only the standard library is used, and nothing of this package, so that it starts in a few milliseconds.

Exit status: 75 when the data belongs to a live owner, else the server's own.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

EXIT_IN_USE = 75
OWNER_LOCK = "owner.lock"
SERVER_LOCK = "server.lock"

STOP_TIMEOUT_S = 3.0
# A predecessor whose owner has died may still be stopping its server.
TAKE_OVER_TIMEOUT_S = STOP_TIMEOUT_S + 5.0
# One whose owner seems to live is given the time in which its end would show.
PATIENCE_S = 1.0
PARENT_CHECK_S = 1.0
LOCK_RETRY_S = 0.01


def main() -> int:
    """Run the server until it, its owner or this process ends; return the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--scratch-dir", type=Path)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    owner = os.getppid()
    wakeup = _wake_on_signals()
    locks: list[IO[str]] = []
    if arguments.data_dir:
        try:
            locks = _take_over(arguments.data_dir, owner)
        except TimeoutError:
            return EXIT_IN_USE
    try:
        server = _start(arguments.command, locks[-1:])
        print(server.pid, flush=True)
        _await_end(server, owner, wakeup)
        return _stop(server)
    finally:
        if arguments.scratch_dir:
            shutil.rmtree(arguments.scratch_dir, ignore_errors=True)


def _wake_on_signals() -> int:
    """Return a file descriptor that can be read once a signal came that ends this process, or the server ended.

    Whatever was ignored or blocked where this was started: the server begins with the defaults. What has a handler here
    has none there.
    """
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return readable


def _take_over(data_dir: Path, owner: int) -> list[IO[str]]:
    """Hold the locks of the owner and of the server in `data_dir`; a server left over there has ended.

    Raises:
        TimeoutError: A live owner uses the data.
    """
    owner_lock = _open_lock(data_dir / OWNER_LOCK)
    if not try_lock(owner_lock):
        predecessor = int(owner_lock.read() or 0)
        _await_lock(owner_lock, PATIENCE_S if _lives(predecessor) else TAKE_OVER_TIMEOUT_S)
    _write(owner_lock, owner)
    server_lock = _open_lock(data_dir / SERVER_LOCK)
    if not try_lock(server_lock):
        # Whoever holds the lock is the server whose id stands in the file; its supervisor is gone.
        with contextlib.suppress(ProcessLookupError):  # only a process that it had forked holds the lock still
            os.kill(int(server_lock.read()), signal.SIGKILL)
        _await_lock(server_lock, TAKE_OVER_TIMEOUT_S)
    return [owner_lock, server_lock]


def _open_lock(path: Path) -> IO[str]:
    path.touch()
    return path.open("r+")


def try_lock(file: IO[str]) -> bool:
    """Lock the file for as long as it is open here or in a process that inherited it; False when another has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it lives and is somebody else's
        return True
    return True


def _await_lock(file: IO[str], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not try_lock(file):
        if time.monotonic() > deadline:
            raise TimeoutError(file.name)
        time.sleep(LOCK_RETRY_S)  # flock cannot wait with a timeout


def _write(file: IO[str], number: int) -> None:
    file.seek(0)
    file.truncate()
    file.write(str(number))
    file.flush()


def _start(command: list[str], server_locks: list[IO[str]]) -> subprocess.Popen[bytes]:
    """Start the server, which alone holds its lock from then on, with its process id written there."""

    def sign_lock() -> None:
        # In the new process, before it becomes the server: so a held lock always names its holder.
        for lock in server_locks:
            _write(lock, os.getpid())

    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        pass_fds=[lock.fileno() for lock in server_locks],
        preexec_fn=sign_lock,
    )
    for lock in server_locks:
        lock.close()
    return server


def _await_end(server: subprocess.Popen[bytes], owner: int, wakeup: int) -> None:
    """Return once the server has ended, or should: its owner is gone, or this process was told to end."""
    while server.poll() is None and os.getppid() == owner:
        ready, _, _ = select.select([sys.stdin, wakeup], [], [], PARENT_CHECK_S)
        if sys.stdin in ready:
            return
        if wakeup in ready and set(os.read(wakeup, 64)) != {signal.SIGCHLD}:
            return


def _stop(server: subprocess.Popen[bytes]) -> int:
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            server.kill()
    return server.wait()


if __name__ == "__main__":
    sys.exit(main())
