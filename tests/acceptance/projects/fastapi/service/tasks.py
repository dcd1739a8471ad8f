"""The labourer of the service."""

from service.celery import app
from sosw_celery import Worker


@app.task(base=Worker, name="make_report")
def make_report(event):
    """Return what a report is about."""
    return {"towns": len(event["towns"])}
