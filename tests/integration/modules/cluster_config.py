"""The configuration of the worker processes that tests start; the test says what it is, through the environment."""

import json
import os

broker_url = os.environ["TEST_REDIS_URL"]
result_backend = os.environ.get("TEST_RESULT_BACKEND") or broker_url
if result_backend != broker_url:  # one that is away: nobody waits for it
    result_backend_transport_options = {"retry_policy": {"max_retries": 0}}
imports = ("cluster_labourers", *os.environ.get("TEST_IMPORTS", "").split())
sosw = json.loads(os.environ["TEST_SOSW"])
beat_schedule_filename = os.environ["TEST_BEAT_FILE"]

if os.environ.get("TEST_KEYS"):  # a directory with the key and the certificates of a test that has its messages signed
    security_key = os.path.join(os.environ["TEST_KEYS"], "key.pem")
    security_certificate = os.path.join(os.environ["TEST_KEYS"], "certificate.pem")
    security_cert_store = os.path.join(os.environ["TEST_KEYS"], "trusted", "*.pem")
    task_serializer = result_serializer = event_serializer = "auth"
    accept_content = ["auth"]
