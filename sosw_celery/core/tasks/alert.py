"""What people are told about dead tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["DeadTask", "Notice", "Owed", "notice_of"]

#: Characters of an error that a text shows.
ERROR_CHARACTERS = 300


@dataclass(frozen=True)
class Owed:
    """A dead task that somebody has yet to be told of."""

    labourer_id: str
    task_id: str


@dataclass(frozen=True)
class DeadTask:
    """A dead task that a notice names."""

    task_id: str
    labourer_id: str
    job_id: str = ""
    attempts: int = 0
    error: str = ""
    closed_at: float | None = None


@dataclass(frozen=True)
class Notice:
    """Tasks that died, told together.

    Parameters:
        labourers: How many of each labourer.
        tasks: Those that are named.
    """

    labourers: Mapping[str, int]
    tasks: Sequence[DeadTask]

    @property
    def total(self) -> int:
        """How many tasks died."""
        return sum(self.labourers.values())

    def text(self) -> str:
        """Return the notice for people: a sentence, then a line for each named task."""
        each = ", ".join(f"{labourer_id} {count}" for labourer_id, count in self.labourers.items())
        lines = [f"{self.total} dead task{'s' if self.total > 1 else ''}: {each}"]
        lines += [self._line(task) for task in self.tasks]
        more = self.total - len(self.tasks)
        if more > 0:
            lines.append(f"and {more} more" if self.tasks else "")
        return "\n".join(line for line in lines if line)

    def as_dict(self) -> dict[str, Any]:
        """Return the notice for programs; `text` is what people read."""
        return {
            "text": self.text(),
            "total": self.total,
            "labourers": dict(self.labourers),
            "tasks": [asdict(task) for task in self.tasks],
        }

    @staticmethod
    def _line(task: DeadTask) -> str:
        tries = f"{task.attempts} attempt{'' if task.attempts == 1 else 's'}"
        error = " ".join(task.error.split())
        if len(error) > ERROR_CHARACTERS:
            error = f"{error[:ERROR_CHARACTERS]}..."
        return f"- {task.labourer_id} {task.task_id} after {tries}: {error or 'no error is known'}"


def notice_of(owed: Sequence[Owed], named: Sequence[DeadTask]) -> Notice:
    """Return the notice about all of `owed`, the labourers with the most dead tasks first."""
    return Notice(dict(Counter(one.labourer_id for one in owed).most_common()), tuple(named))
