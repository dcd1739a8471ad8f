"""What the service answers."""

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

import service.celery  # noqa: F401  # the app that `scheduler` means
from sosw_celery import InvalidJob, scheduler

web = FastAPI()


class Report(BaseModel):
    """What a report is to be about."""

    towns: list[str]


@web.post("/reports", status_code=202)
def submit(report: Report) -> dict[str, str]:
    """Submit a job, one task for each town. FastAPI runs this in a thread: `delay` waits for DynamoDB."""
    try:
        result = scheduler.delay({"lambda_name": "make_report", "isolate_towns": True, "towns": report.towns})
    except InvalidJob as problem:
        raise HTTPException(422, str(problem)) from problem
    return {"job_id": result.id}
