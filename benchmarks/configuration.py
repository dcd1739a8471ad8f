"""`celeryconfig` of the system under a benchmark: what its section `sosw` is stands in the environment."""

import json
import os

from benchmarks.parts import VARIABLE, take_out

take_out(os.environ[VARIABLE].split(","))

sosw = json.loads(os.environ["BENCHMARK_SOSW"])

broker_url = result_backend = sosw["redis_url"]
imports = ("benchmarks.labourers",)
