"""The one way to go on after something that fails: a labourer, a job, a row or a batch in a sweep, a pass or a look.

    with each_by_itself("sweep") as steps:
        for labourer_id in labourers:
            with steps.step(f"labourer {labourer_id}"):
                sweep(labourer_id)

Each step that fails is logged, once, with what it was about. The others are made all the same, and then the block
raises the first of the errors: whoever called it learns that not all is well, and Celery reports it.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from sosw_celery.errors import StoreUnavailable

__all__ = ["Steps", "each_by_itself"]

logger = logging.getLogger(__name__)

#: Attribute of errors that were logged.
TOLD = "sosw_told"


class Steps:
    """The steps of one block: how many were made, how many failed, and the first error.

    Parameters:
        what: What the steps are of, for the log: `sweep`.
        ends_with: Errors that no other step would be spared: they end the block at once.
    """

    def __init__(self, what: str, ends_with: tuple[type[Exception], ...] = ()) -> None:
        self.what = what
        self.made = self.failed = 0
        self._ends_with = ends_with
        self._first: Exception | None = None

    @contextlib.contextmanager
    def step(self, about: str) -> Iterator[None]:
        """Do what is in the block; if it fails, log that and go on behind it.

        Parameters:
            about: Whom or what it concerns, for the log: `labourer resize`.
        """
        self.made += 1
        try:
            yield
        except self._ends_with:
            raise
        except Exception as problem:
            # The border: one of many is as broken as it likes, the others must not notice.
            self.failed += 1
            self._first = self._first or problem
            if TOLD not in vars(problem):  # else a block inside this step has
                vars(problem)[TOLD] = True
                # That a store is away for now is told in one line; where it is, says the error that ends the block.
                traceback = None if isinstance(problem, StoreUnavailable) else problem
                logger.error("%s: %s failed, going on: %s", self.what, about, problem, exc_info=traceback)

    def end(self) -> None:
        """Raise the first error, if a step failed."""
        if self._first is not None:
            if self.failed > 1:
                logger.error("%s: %d of %d failed", self.what, self.failed, self.made)
            raise self._first


@contextlib.contextmanager
def each_by_itself(what: str, *, ends_with: tuple[type[Exception], ...] = ()) -> Iterator[Steps]:
    """Make steps each by itself inside the block, and raise the first error of a step at its end.

    Parameters:
        what, ends_with: As `Steps` takes them.
    """
    steps = Steps(what, ends_with)
    yield steps
    steps.end()
