"""`celeryconfig` of the system under a benchmark: what its section `sosw` is stands in the environment."""

import json
import os

sosw = json.loads(os.environ["BENCHMARK_SOSW"])

broker_url = result_backend = sosw["redis_url"]
imports = ("benchmarks.labourers",)
