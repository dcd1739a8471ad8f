"""What a job would become: chunked as the Scheduler does it, without any store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from sosw_celery.config.settings import Settings
from sosw_celery.core.chunking import check_labourer, check_payload_size, payload_text
from sosw_celery.errors import InvalidJob
from sosw_celery.services.scheduler import scheduler_class

__all__ = ["SAMPLE", "Chunker", "Preview", "preview_of"]

#: Payloads that are shown unless asked otherwise.
SAMPLE = 3


class Chunker:
    """Chunks as the Scheduler of the settings does, without its stores, and keeps what the job is warned of."""

    def __init__(self, settings: Settings) -> None:
        nothing = cast(Any, None)  # chunking uses no store
        self.settings = settings
        self.warnings: list[str] = []
        self._scheduler = scheduler_class(settings)(
            settings,
            task_table=nothing,
            job_table=nothing,
            queue_files=nothing,
            messenger=nothing,
            warned=self.warnings.append,
        )

    def check_code(self) -> None:
        """Make sure that the code which the settings name for periods and chunkers is there.

        Raises:
            ConfigError: It is not.
        """
        self._scheduler.check_periods()

    def checked(self, event: Any) -> tuple[dict[str, Any], Iterator[str]]:
        """Return the job of an event, checked whole, and the payloads of its tasks as text, made one by one.

        Raises:
            InvalidJob: At once when the job is wrong, with the task when one is too big, at the end when there is none.
        """
        job = self._scheduler.extract_job_from_payload(event)
        check_labourer(job["lambda_name"], self.settings.labourers)
        return job, self._texts(self._scheduler.payloads(job))

    def _texts(self, payloads: Iterator[Mapping[str, Any]]) -> Iterator[str]:
        text = None
        for payload in payloads:
            text = payload_text(payload)
            check_payload_size(text)
            yield text
        if text is None:
            raise InvalidJob("job", "expected a job that gives at least one task")


@dataclass
class Preview:
    """What a job would become. Sizes are bytes of payloads."""

    labourer_id: str
    tasks: int = 0
    smallest: int = 0
    largest: int = 0
    total: int = 0
    sample: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, text: str, sample: int) -> None:
        """Count a task in."""
        size = len(text)
        self.smallest = size if not self.tasks else min(size, self.smallest)
        self.largest = max(size, self.largest)
        self.total += size
        self.tasks += 1
        if len(self.sample) < sample:
            self.sample.append(text)


def preview_of(event: Any, settings: Settings, sample: int = SAMPLE) -> Preview:
    """Return what the job of an event would become.

    Raises:
        InvalidJob: It cannot become tasks.
    """
    chunker = Chunker(settings)
    job, texts = chunker.checked(event)
    found = Preview(job["lambda_name"], warnings=chunker.warnings)
    for text in texts:
        found.add(text, sample)
    return found
