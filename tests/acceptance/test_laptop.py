"""A configuration that was written for production, tried on a laptop: `up` stands in for every server that it names."""

from __future__ import annotations

import json

from sosw_celery.system.exits import ExitCode
from tests.acceptance.shell import Desk

#: Nothing listens at these addresses, and nothing at AWS is to be asked.
PRODUCTION = """
broker_url = "amqp://user:secret@127.0.0.1:1//"
result_backend = "rediss://127.0.0.1:1/1"
broker_transport_options = {"confirm_publish": True}
imports = ("labourers",)
sosw = {
    "redis_url": "rediss://127.0.0.1:1/0",
    "queue_bucket": "production-queue",
    "sns_config": {"recipient": "arn:aws:sns:eu-west-1:123456789012:dead"},
    "job_schema": {"chunkable_attrs": ["item"]},
    "labourers": {"work": {"max_simultaneous_invocations": 2, "duration": 30}},
}
"""
#: A shell in which AWS can be reached, as far as anybody knows.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIAPRODUCTION",
    "AWS_SECRET_ACCESS_KEY": "production",
    "AWS_DEFAULT_REGION": "us-east-1",
}
SUBMIT = """
from sosw_celery import scheduler
job = {"lambda_name": "work", "isolate_items": True, "items": ["a", "b"], "job_id": "from-python"}
summary = scheduler.delay(job).get(timeout=60)
print(summary["job_id"], summary["tasks"])
"""


def test_everything_that_reads_the_configuration_uses_the_servers_of_up(own_desk: Desk) -> None:
    """Our commands, Celery's and a program of one's own, without a variable exported; production is not asked."""
    own_desk.environment.update(CREDENTIALS)
    own_desk.write("celeryconfig.py", PRODUCTION)
    own_desk.write("submit.py", SUBMIT)
    own_desk.up(ready=2)
    log = own_desk.log.read_text()
    assert "left out: sosw.sns_config; nobody beyond this machine is told of dead tasks" in log
    assert "made table sosw_tasks" in log

    shown = own_desk.json("config", "show")
    endpoint = shown["sosw"]["dynamodb_endpoint"]
    assert endpoint.startswith("http://127.0.0.1:")
    assert shown["sosw"]["queue_bucket"].startswith("file:///")

    done = own_desk.run("python", "submit.py")
    assert (done.returncode, done.stdout) == (0, "from-python 2\n"), done.stderr
    ended = own_desk.json("schedule", "-", "--wait", job={"lambda_name": "work", "items": ["c"]})
    assert ended["state"] == "completed"
    pings = own_desk.run("celery", "-A", "sosw_celery", "inspect", "ping", "--json")
    assert len(json.loads(pings.stdout)) == 2, pings.stderr

    # In another directory, by the one variable that names the stack.
    elsewhere = own_desk.directory / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "celeryconfig.py").write_text(PRODUCTION)
    stack = str(own_desk.directory / ".sosw")
    found = own_desk.run("sh", "-c", "cd elsewhere && sosw-celery job from-python --json", SOSW_DATA=stack)
    assert found.returncode == ExitCode.OK, found.stderr
    assert json.loads(found.stdout)["tasks"] == 2
