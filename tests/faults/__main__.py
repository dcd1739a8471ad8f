"""The fault runs: `python -m tests.faults --runs 200 --seed 1 --at-once 4`, or `make faults RUNS=200 SEED=1 AT_ONCE=4`.

Exit status 1 if a promise was broken or a run could not be what it was to be.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from tests import signals

AWS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


def main() -> int:
    """Carry out the runs that are asked for, and tell of each and of all."""
    arguments = _arguments()
    _clean_environment()
    signals.pass_none_on()
    # What is imported here reads the environment.
    from tests.faults import kinds, plan, report, run
    from tests.nursery import Nursery

    if arguments.kinds:
        print("\n".join(kind.name for kind in kinds.KINDS))
        return 0
    # What our side of a run meets on its way (a Redis that is down) is no news.
    logging.getLogger("sosw_celery").addHandler(logging.NullHandler())
    profile = plan.SHORT if arguments.short else plan.DEFAULT
    logs = arguments.logs or Path(tempfile.mkdtemp(prefix="faults-"))
    said = threading.Lock()

    def one(seed: int) -> run.Outcome:
        planned = plan.make_plan(seed, profile, kinds.KINDS, arguments.only)
        try:
            outcome = run.carry_out(planned, nursery, logs / f"seed-{seed}")
        except Exception as problem:
            with said:
                print(f"seed {seed}: {planned.title}; NOT CARRIED OUT: {problem!r}", flush=True)
            raise
        with said:
            print(report.line_of(outcome), flush=True)
        return outcome

    began = time.monotonic()
    print(f"seeds {arguments.seed} to {arguments.seed + arguments.runs - 1}; logs of broken runs stay in {logs}")
    with Nursery() as nursery, ThreadPoolExecutor(arguments.at_once) as pool:
        runs = [pool.submit(one, seed) for seed in range(arguments.seed, arguments.seed + arguments.runs)]
        try:
            wait(runs)
        except KeyboardInterrupt:
            print("no more runs are begun; those under way will end", flush=True)
            pool.shutdown(cancel_futures=True)
    begun = [future for future in runs if not future.cancelled()]
    outcomes = [future.result() for future in begun if not future.exception()]
    how = f"make faults RUNS={len(begun)} SEED={arguments.seed}"
    table = report.markdown(outcomes, how)
    print(f"\n{table}\n{time.monotonic() - began:.0f} s")
    if arguments.markdown:
        page = arguments.markdown.read_text() if arguments.markdown.exists() else ""
        arguments.markdown.write_text(report.filled_in(page, table))
    return 0 if len(outcomes) == len(runs) and all(outcome.kept for outcome in outcomes) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="how many (20)")
    parser.add_argument("--seed", type=int, default=1, help="of the first run, the others count up (1)")
    parser.add_argument("--at-once", type=int, default=3, help="runs under way at a time (3)")
    parser.add_argument("--only", action="append", default=[], metavar="KIND", help="inject these faults in each run")
    parser.add_argument("--short", action="store_true", help="with short leases and outages")
    parser.add_argument("--kinds", action="store_true", help="list the kinds of faults")
    parser.add_argument("--logs", type=Path, help="directory for the logs of broken runs (a new one)")
    parser.add_argument("--markdown", type=Path, help="page that takes the table, between its two comments")
    return parser.parse_args()


def _clean_environment() -> None:
    """Take away what the shell may say about AWS, Celery and us: no run may reach a real account."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "CELERY_", "SOSW_")) and name != "SOSW_CACHE":
            del os.environ[name]
    os.environ.update(AWS)


if __name__ == "__main__":
    sys.exit(main())
