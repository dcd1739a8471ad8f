"""The class `Scheduler` that programs use: made by hand or subclassed, on the configuration of the process.

    class OurScheduler(Scheduler): ...          # for `scheduler_class`

    scheduler = Scheduler(custom_config={"rows_per_file": 50})
    summary = scheduler({"lambda_name": "resize", "isolate_stores": True, "stores": ["north", "south"]})

Source: sosw's class of this name, which is made and called like this on Lambda.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from sosw_celery.celery import current, section_of
from sosw_celery.config.settings import Settings, load_settings
from sosw_celery.core.deep_merge import merged_deeply
from sosw_celery.core.jobs.plan import Envelope
from sosw_celery.services import scheduler as service
from sosw_celery.stores.files.queue_files import read_rows
from sosw_celery.wiring.container import Services, services_of

__all__ = ["Scheduler"]


class Scheduler(service.Scheduler):
    """Accepts jobs, chunks them and writes their tasks; called with an event it does all of that here and now.

    The methods of sosw for queue files work outside of a run too: `parse_job_to_file(job)` stores the files of a job,
    `get_and_lock_queue_file` and `upload_and_unlock_queue_file` take and give back the last of them, and `process_file`
    writes the tasks of that job.

    Parameters:
        settings: With `parts`, the stores and messengers of the service: what the system itself makes. None: those of
            this process.
        custom_config: Laid over the section `sosw` of the configuration; keys of sosw are understood.

    Raises:
        ConfigError: The configuration is missing or wrong.
    """

    def __init__(
        self,
        settings: Settings | Mapping[str, Any] | None = None,
        *,
        custom_config: Mapping[str, Any] | None = None,
        **parts: Any,
    ) -> None:
        if isinstance(settings, Settings):
            super().__init__(settings, **parts)
        else:
            services = _services_with(custom_config or settings or {})
            super().__init__(services.settings, **{**services.parts_of_scheduler, **parts})
        self._parsed: Mapping[str, Any] | None = None
        self._parsed_files: list[str] = []

    def __call__(self, event: Any) -> dict[str, Any]:
        """Accept the job of an event and go on with it in this process; return its summary.

        What does not fit into the time of one run (`scheduler_max_run`) is left to the workers.

        Raises:
            InvalidJob: It cannot be a job.
            StoreUnavailable: Whether it is accepted is not known; call again with the same `job_id`.
        """
        job_id, _ = self.submit(event, uuid.uuid4().hex)
        return self.run(Envelope(job_id)).as_dict()

    # ---- queue files outside of a run

    def parse_job_to_file(self, job: Mapping[str, Any]) -> int:
        """Chunk a job into queue files, one for each part of it, and return the number of its tasks."""
        if self._work is None:
            self._parsed, self._parsed_files = dict(job), []
        return super().parse_job_to_file(job)

    def set_queue_file(self, name: str | None = None) -> None:
        """Choose the name of the queue file that is worked on; a new one where none is given."""
        super().set_queue_file(name)
        if self._work is None:
            self._parsed_files.append(self._queue_file_name)

    def get_and_lock_queue_file(self) -> str:
        """Lock the queue file and return the path of a working copy; an empty text when there is no such file."""
        if self._work is not None:
            return super().get_and_lock_queue_file()
        path = self._queue_files.lock(self._queue_file_name, self._directory, steal=True)
        return "" if path is None else str(path)

    def upload_and_unlock_queue_file(self) -> None:
        """Give back what is left of the queue file and remove its locked twin."""
        if self._work is not None:
            super().upload_and_unlock_queue_file()
            return
        local = self._directory / self._queue_file_name
        if local.exists():
            self._queue_files.unlock(self._queue_file_name, read_rows(local))
        else:
            self._queue_files.delete(self._queue_file_name)

    def process_file(self) -> None:
        """Write the rows of the part in hand; outside of a run, all tasks of the job that was parsed last.

        The job is accepted for that, so none of its tasks can be lost, and its files are removed.

        Raises:
            RuntimeError: No job was parsed.
        """
        if self._work is not None:
            super().process_file()
            return
        if self._parsed is None:
            raise RuntimeError("process_file: parse_job_to_file comes first, it says which job is to be written")
        self(self._parsed)
        for name in self._parsed_files:
            self._queue_files.delete(name)
        self._parsed, self._parsed_files = None, []

    @property
    def _directory(self) -> Path:
        return Path(self._temporary.name)

    @cached_property
    def _temporary(self) -> tempfile.TemporaryDirectory[str]:
        """Where working copies lie, for as long as this object lives."""
        return tempfile.TemporaryDirectory(prefix="sosw-celery-")


def _services_with(custom_config: Mapping[str, Any]) -> Services:
    if not custom_config:
        return services_of(current())
    return Services(current(), load_settings(merged_deeply(section_of(current()), custom_config)))
