"""How the processes of a pool are ended: real processes, whose parent is the test."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from billiard.exceptions import SoftTimeLimitExceeded

from sosw_celery.core.tasks.model import Attempt
from sosw_celery.labourer import children
from sosw_celery.labourer import pool_memory as board_module
from sosw_celery.labourer.pool_memory import Board, Entry, Post, Stage
from sosw_celery.node.pool_process import lead_a_session

ATTEMPT = Attempt("note", "task", 1)
LONG_S = 60


class Child:
    """A process that leads a session and has started another one; `stage` is how far it says that it is."""

    def __init__(self, board: Board, stage: Stage, *, leads: bool = True) -> None:
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            with contextlib.suppress(BaseException):
                self._live(board, stage, writer, leads=leads)
            os._exit(1)
        os.close(writer)
        with os.fdopen(reader) as told:
            self.subprocess = int(told.readline())

    @staticmethod
    def _live(board: Board, stage: Stage, writer: int, *, leads: bool) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if leads:
            lead_a_session()
        post = Post(board)
        post.ask("task.1", ATTEMPT, LONG_S)
        if stage is Stage.RUNNING:
            post.run(LONG_S, math.inf)
        elif stage is Stage.CLOSING:
            post.close(LONG_S)
        elif stage is Stage.DONE:
            post.be_done()
        started = subprocess.Popen(["sleep", str(LONG_S)], close_fds=True)
        os.write(writer, f"{started.pid}\n".encode())
        os.close(writer)
        time.sleep(LONG_S)

    @property
    def subprocess_runs(self) -> bool:
        """Whether what it has started runs: a zombie does not."""
        with contextlib.suppress(OSError):
            return Path(f"/proc/{self.subprocess}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        return False


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until the kernel has done what it was asked for."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    """The board of a node with one process."""
    board = Board()
    monkeypatch.setattr(board_module, "current_process", lambda: SimpleNamespace(index=0))
    monkeypatch.setattr(children, "board", board)
    return board


@pytest.fixture
def make(board: Board) -> Iterator[Callable[..., Child]]:
    """Makes children, which end with the test."""
    made: list[Child] = []

    def start(stage: Stage, *, leads: bool = True) -> Child:
        made.append(Child(board, stage, leads=leads))
        return made[-1]

    yield start
    for child in made:
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(child.pid, os.WNOHANG) == (0, 0):
                os.kill(child.pid, signal.SIGKILL)
                os.waitpid(child.pid, 0)
        if child.subprocess_runs:
            os.kill(child.subprocess, signal.SIGKILL)


def only(board: Board) -> Entry:
    """Return the one entry of the board."""
    (entry,) = board.entries()
    return entry


def test_a_dead_child_is_not_alive_before_and_after_somebody_waited_for_it(make: Callable[..., Child]) -> None:
    """Looking takes nothing away from the pool, which has to wait for it."""
    child = make(Stage.RUNNING)
    assert children.is_alive(child.pid)
    os.kill(child.pid, signal.SIGKILL)
    wait_until(lambda: not children.is_alive(child.pid))
    assert os.waitpid(child.pid, 0)[0] == child.pid
    assert not children.is_alive(child.pid)


@pytest.mark.parametrize("pid", [1, 2**22 + 1])
def test_strangers_are_not_alive(pid: int) -> None:
    """Nobody is killed who is no child."""
    assert not children.is_alive(pid)


def test_who_is_ended_ends_with_what_it_started_and_for_a_reason(board: Board, make: Callable[..., Child]) -> None:
    """Celery tells of the death after it, and knows no reason."""
    child = make(Stage.RUNNING)
    entry = only(board)
    assert children.end(entry, "Time limit: too long")
    wait_until(lambda: not children.is_alive(child.pid))
    wait_until(lambda: not child.subprocess_runs)
    assert children.lay_to_rest(entry) == "Time limit: too long"
    assert children.lay_to_rest(entry) is None


def test_who_leads_nobody_ends_alone(board: Board, make: Callable[..., Child]) -> None:
    """Its group is that of the node."""
    child = make(Stage.RUNNING, leads=False)
    assert children.end(only(board), "Time limit: too long")
    wait_until(lambda: not children.is_alive(child.pid))
    assert child.subprocess_runs


def test_who_has_gone_on_meanwhile_is_let_live(board: Board, make: Callable[..., Child]) -> None:
    """It was judged by what it said a moment ago."""
    child = make(Stage.RUNNING)
    before = only(board)
    assert not children.end(replace(before, stage=Stage.READYING), "Time limit: too long")
    assert not children.end(replace(before, attempt=Attempt("note", "the one before", 1)), "Time limit: too long")
    assert children.is_alive(child.pid)


@pytest.mark.parametrize("stage", [Stage.ASKING, Stage.RUNNING])
def test_nothing_of_an_attempt_runs_when_it_is_laid_to_rest(
    board: Board, make: Callable[..., Child], stage: Stage
) -> None:
    """Celery may tell of an end before it, and the process may not mind SIGTERM."""
    child = make(stage)
    assert children.lay_to_rest(only(board)) is None
    assert not children.is_alive(child.pid)
    wait_until(lambda: not child.subprocess_runs)


@pytest.mark.parametrize("stage", [Stage.CLOSING, Stage.DONE])
def test_who_is_through_is_left_alone(board: Board, make: Callable[..., Child], stage: Stage) -> None:
    """A process that leaves by itself has things to finish; one that goes on has other work."""
    child = make(stage)
    assert children.lay_to_rest(only(board)) is None
    assert children.is_alive(child.pid)
    assert child.subprocess_runs


def test_what_a_dead_process_left_behind_ends(board: Board, make: Callable[..., Child]) -> None:
    """It was killed by another one, as the kernel does when memory runs out."""
    child = make(Stage.RUNNING)
    os.kill(child.pid, signal.SIGKILL)
    os.waitpid(child.pid, 0)
    assert child.subprocess_runs
    assert children.lay_to_rest(only(board)) is None
    wait_until(lambda: not child.subprocess_runs)


def test_who_has_the_id_of_a_process_that_was_waited_for_is_left_alone(
    board: Board, make: Callable[..., Child], tmp_path: Path
) -> None:
    """Ids come again, on some machines within minutes; whoever has it now leads a group of its own."""
    make(Stage.RUNNING)
    lives = "trap 'touch told; exit' TERM; touch ready; while :; do sleep 0.05; done"
    command = ["sh", "-c", f'setsid sh -c "{lives}" >&- & echo $!']
    done = subprocess.run(command, stdout=subprocess.PIPE, cwd=tmp_path, check=True)
    wait_until((tmp_path / "ready").exists)
    stranger = int(done.stdout)
    assert os.getpgid(stranger) == stranger
    assert children.lay_to_rest(replace(only(board), pid=stranger)) is None
    os.kill(stranger, signal.SIGTERM)
    wait_until((tmp_path / "told").exists)


@pytest.mark.parametrize(
    ("stage", "is_in_task", "is_told"),
    [
        (Stage.ASKING, True, False),
        (Stage.READYING, True, False),
        (Stage.RUNNING, True, True),
        (Stage.CLOSING, True, False),
        (Stage.DONE, False, False),
        (Stage.DONE, True, True),  # a task that is no labourer's
    ],
)
def test_a_soft_limit_ends_bodies_alone(
    monkeypatch: pytest.MonkeyPatch, stage: Stage, is_in_task: bool, is_told: bool
) -> None:
    """A signal that comes a moment too late does no harm to a close."""
    monkeypatch.setattr(children, "here", SimpleNamespace(stage=stage))
    monkeypatch.setattr(children, "current_task", is_in_task)
    before = signal.getsignal(signal.SIGUSR1)
    children.take_soft_limits()
    try:
        with pytest.raises(SoftTimeLimitExceeded) if is_told else contextlib.nullcontext():
            os.kill(os.getpid(), signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
