"""Signed messages, and secrets in logs: with real workers."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sosw_celery.core.tasks.model import JobState
from sosw_celery.local import RedisServer
from sosw_celery.names import QUEUES, SCHEDULER, WORKER_ASSISTANT
from tests.integration.cluster import Cluster
from tests.nursery import Nursery

LABOURERS = {
    "note": {"max_simultaneous_invocations": 2, "duration": 30, "retry_backoff": 0.1},
    "count": {"max_simultaneous_invocations": 2, "duration": 30, "close_through": "assistant", "retry_backoff": 0.1},
}
JOBS = [
    {"lambda_name": name, "isolate_groups": True, "groups": {f"g{n}": {"values": [n]} for n in range(3)}}
    for name in LABOURERS
]


def make_keys(directory: Path, name: str, trusted: Path | None = None) -> Path:
    """Make a key with its certificate; it is one of the trusted ones of a directory, its own unless stated."""
    own = directory / name
    (own / "trusted").mkdir(parents=True)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (own / "key.pem").write_bytes(pem)
    (own / "certificate.pem").write_bytes(certificate)
    ((trusted or own) / "trusted" / f"{name}.pem").write_bytes(certificate)
    return own


def run(cluster: Cluster, program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program of a user, configured as the workers are."""
    environment = {**cluster.environment, **environment}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=environment, cwd=cluster.directory, capture_output=True, text=True)


SUBMIT = """
import json, sys
from sosw_celery import scheduler
for job in json.loads({jobs!r}):
    print(scheduler.delay(job).get(timeout=60)["job_id"])
"""


@pytest.mark.slow
def test_signed_messages_work_everywhere_and_all_others_are_refused(
    make_cluster: Callable[..., Cluster], tmp_path: Path
) -> None:
    """With a key, jobs run through all kinds of our messages; unsigned ones and those of strangers do nothing.

    Our own messages are hints with and without their event, dispatches, sweeps of beat, envelopes, closing messages,
    results, and remote control.
    """
    keys = make_keys(tmp_path, "ours")
    stranger = make_keys(tmp_path, "stranger")
    (stranger / "trusted" / "ours.pem").write_bytes((keys / "certificate.pem").read_bytes())
    cluster = make_cluster(labourers=LABOURERS)
    cluster.environment["TEST_KEYS"] = str(keys)
    workers = [cluster.worker(), cluster.worker("note,count", "-c", "2")]
    cluster.beat()
    submitted = run(cluster, SUBMIT.format(jobs=json.dumps(JOBS)))
    assert submitted.returncode == 0, submitted.stderr + cluster.tails()
    for job_id in submitted.stdout.split():
        summary = cluster.ended(job_id)
        assert (summary.state, summary.completed) == (JobState.COMPLETED, 3)
    pong = run(cluster, "from sosw_celery import app; print(len(app.control.ping(timeout=5)))")
    assert pong.stdout.strip() == "2", pong.stderr

    # Unsigned, by a client that has no key; and signed by a key whose certificate nobody trusts.
    forged = {"lambda_name": "note", "groups": {"forged": {}}, "job_id": "forged"}
    cluster.app.send_task(SCHEDULER, [forged], queue=QUEUES[SCHEDULER], ignore_result=True)
    cluster.app.send_task("note", [{"task_id": "t", "labourer_id": "note", "attempt": 1}], queue="note")
    cluster.app.send_task(WORKER_ASSISTANT, [{}], queue=QUEUES[WORKER_ASSISTANT], ignore_result=True)
    sent = run(
        cluster,
        f"from sosw_celery import app; app.send_task('scheduler', [{forged!r}], queue='sosw_scheduler')",
        TEST_KEYS=str(stranger),
    )
    assert sent.returncode == 0, sent.stderr
    logs = lambda: "".join(map(cluster.log, workers))  # noqa: E731  # read anew each time
    cluster.wait_for(lambda: logs().count("message refused") >= 4, 30, "four refusals")
    assert "forged" not in logs()
    with pytest.raises(LookupError):
        cluster.services.job_table.record("forged")
    again = run(cluster, SUBMIT.format(jobs=json.dumps(JOBS[:1])))
    assert cluster.ended(again.stdout.strip()).completed == 3


@pytest.mark.parametrize(
    ("missing", "words"),
    [("key.pem", "security_key"), ("certificate.pem", "security_key"), ("broken key", "a key and certificates")],
)
def test_a_key_that_cannot_be_used_is_an_error_at_the_start(
    make_cluster: Callable[..., Cluster], tmp_path: Path, missing: str, words: str
) -> None:
    """A process that should sign and cannot ends with the setting's name, and with nothing of the key."""
    keys = make_keys(tmp_path, "ours")
    cluster = make_cluster(labourers=LABOURERS)
    if missing == "broken key":
        (keys / "key.pem").write_text("-----BEGIN PRIVATE KEY-----\nc2VjcmV0LWtleQ==\n-----END PRIVATE KEY-----\n")
    else:
        os.unlink(keys / missing)
    answer = run(cluster, "from sosw_celery import app; app.loader.import_default_modules()", TEST_KEYS=str(keys))
    assert answer.returncode != 0
    assert "task_serializer" in answer.stderr
    assert words in answer.stderr
    assert "c2VjcmV0" not in answer.stderr


PASSWORD = "pa55-of-redis"
CANARIES = ("canary-payload", "canary-key", "canary-result", "canary-wrong-value", PASSWORD, "canary-aws-secret")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_log_line_holds_a_payload_or_a_password(
    tmp_path: Path, nursery: Nursery, dynamodb_endpoint: str, table_prefix: str
) -> None:
    """Whatever happens to jobs, in any process that logs all it can: what they hold, and secrets, are in no output.

    Neither are they in what the commands print about the configuration and its errors. A body's own exception is its
    author's: only its text is shown.
    """
    with RedisServer() as server:
        with redis.from_url(server.url) as client:
            client.config_set("requirepass", PASSWORD)
        url = server.url.replace("redis://", f"redis://:{PASSWORD}@")
        section = {"labourers": LABOURERS, "lease_s": 3, "renew_s": 0.5, "settle_s": 1}
        cluster = Cluster(tmp_path, nursery, url, dynamodb_endpoint, table_prefix, **section)
        cluster.environment["AWS_SECRET_ACCESS_KEY"] = "canary-aws-secret"
        try:
            _make_every_kind_of_line(cluster)
        finally:
            cluster.stop()
        outputs = {str(process.arguments): cluster.log(process) for process in cluster.processes}
        outputs |= {"commands": "".join(_commands(cluster, url))}
    assert len(outputs) == 4
    assert "canary-command" in outputs["commands"]
    together = "".join(outputs.values())
    for line in ("succeeded in", "raised unexpected", "message refused: no task", "message dropped", "job refused"):
        assert line in together
    for name, text in outputs.items():
        for canary in CANARIES:
            found = text.find(canary)
            assert found < 0, f"{name}: {text[max(0, found - 600) : found + 200]}"


def _make_every_kind_of_line(cluster: Cluster) -> None:
    """Have jobs succeed, fail, die with their process, be refused and be malformed, while processes log everything."""
    from tests.integration.cluster import ESSENTIALS

    for queues, count in ((ESSENTIALS, "2"), ("note,count", "2")):
        process = cluster.celery("worker", "-Q", queues, "-c", count, "-n", f"{queues[:4]}@test", "-l", "DEBUG")
        cluster.wait_for(lambda process=process: "ready." in cluster.log(process), 60, "worker", process)
    cluster.celery("beat", "-l", "DEBUG")
    private = {"canary-key": "canary-payload", "values": ["canary-result"]}
    manners = ["", "raise", "kill", "later"]
    for name in LABOURERS:
        groups = {f"g{number}": {**private, "manner": manner} for number, manner in enumerate(manners)}
        assert cluster.ended(cluster.submit({"lambda_name": name, "isolate_groups": True, "groups": groups}), 90)
    wrong = {"lambda_name": "note", "isolate_groups": "canary-wrong-value", "groups": {"a": {}}, **private}
    job_id = cluster.submit(wrong, "refused")
    cluster.wait_for(
        lambda: cluster.services.job_table.get(job_id).state is JobState.REFUSED, 30, "the job to be refused"
    )
    closing: dict[str, Any] = {"action": "canary-payload", "stats": private}
    for message, name in (
        (wrong, SCHEDULER),
        (closing, WORKER_ASSISTANT),
        (private, "note"),
        ("canary-payload", "count"),
    ):
        cluster.app.send_task(name, [message], queue=QUEUES.get(name, name), ignore_result=True)
    cluster.app.send_task("no_such_task", [private], queue="note", ignore_result=True)
    cluster.wait_for(lambda: not any(map(cluster.services.redis.llen, [*QUEUES.values(), *LABOURERS])), 30, "all taken")
    cluster.services.redis.client_kill_filter(_type="normal", skipme=True)
    cluster.ended(cluster.submit(JOBS[0]), 60)


def _commands(cluster: Cluster, url: str) -> list[str]:
    """Return what the commands print of the configuration, a right one and wrong ones."""
    yield_all = []
    main = "from sosw_celery.cli import main; main()"
    for section in (
        {},
        {"redis_urll": url},
        {"redis_url": [url]},
        {"notices": {"webhook": f"https://hooks.example.com/{PASSWORD}", "every_s": "canary-command"}},
    ):
        environment = {**cluster.environment, "TEST_SOSW": json.dumps({**cluster.section, **section})}
        for arguments in (["config", "show"], ["config", "check"], ["status", "--debug"]):
            answer = subprocess.run(
                [sys.executable, "-c", main, *arguments],
                env=environment,
                cwd=cluster.directory,
                capture_output=True,
                text=True,
            )
            yield_all.append(answer.stdout + answer.stderr)
    return yield_all
