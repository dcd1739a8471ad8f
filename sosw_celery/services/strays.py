"""Jobs of labourers that are not configured: renamed or removed while tasks of theirs were open.

Nothing of them is lost: their tasks wait until the labourer is configured again, and nobody else touches them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from sosw_celery.stores.dynamodb.job_table import JobTable

__all__ = ["stray_jobs"]


def stray_jobs(job_table: JobTable, labourers: Collection[str], limit: int = 1000) -> Counter[str]:
    """Return, by labourer, how many unfinished jobs there are of those that are not configured.

    Parameters:
        labourers: Those that are.
        limit: Jobs that are looked at, of each stage: those that were accepted first.

    Raises:
        StoreUnavailable: The table could not be read.
    """
    records = job_table.records(job_table.unfinished(limit))
    return Counter(record.labourer_id for record in records if record.labourer_id not in labourers)
