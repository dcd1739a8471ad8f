"""The configuration of the processes under test; the run says what it is, through the environment."""

import faulthandler
import json
import os
import signal
import sys

broker_url = os.environ["TEST_REDIS_URL"]
result_backend = os.environ["TEST_REDIS_URL"]
imports = ("faults_labourers", *os.environ.get("TEST_IMPORTS", "").split())
sosw = json.loads(os.environ["TEST_SOSW"])
beat_schedule_filename = os.environ["TEST_BEAT_FILE"]

# Whoever hangs can be asked where, children of a pool included: `wait_restarted` does.
faulthandler.register(signal.SIGUSR2, sys.__stderr__)
