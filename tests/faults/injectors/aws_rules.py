"""What is to go wrong between the processes under test and AWS: said by the test, read by each process.

The test replaces one small file as a whole; a process looks before each request whether it was replaced, which takes
about a microsecond. Rules may end by themselves: `until` is a time of the monotonic clock, one for the whole machine.
"""

from __future__ import annotations

import enum
import json
import os
import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["DIRECTORY", "SEED", "AwsFaults", "Fault", "Injection", "Rule", "RulesInForce"]

#: Variables of the environment that tell a process where the rules stand, and the seed of its chance.
DIRECTORY = "TEST_AWS_FAULTS"
SEED = "TEST_AWS_FAULTS_SEED"


class Fault(str, enum.Enum):
    """A way for a request to go wrong. "Before" means that it took no effect, "after" that it did."""

    THROTTLED = "throttled"  # ProvisionedThroughputExceededException; S3: SlowDown
    REQUEST_LIMIT = "request limit"  # RequestLimitExceeded; S3: SlowDown
    THROTTLING = "throttling"  # ThrottlingException; S3: SlowDown
    CONFLICT = "conflict"  # another transaction is at the item: writes of DynamoDB only
    UNPROCESSED = "unprocessed"  # a batch call does a part of it: BatchWriteItem and BatchGetItem only
    ERROR_BEFORE = "error before"  # status 500
    ERROR_AFTER = "error after"
    RESET_BEFORE = "reset before"  # the connection is cut
    RESET_AFTER = "reset after"
    TIMEOUT_BEFORE = "timeout before"  # no answer in time
    TIMEOUT_AFTER = "timeout after"
    REFUSED = "refused"  # no connection
    STALE = "stale"  # a query of an index is answered by another table: see `lagging_index`


@dataclass(frozen=True)
class Rule:
    """One fault and the requests that it may strike. Of several rules the first that strikes does.

    Parameters:
        share: Of the requests that it is for; with `UNPROCESSED` also of the items of a batch that are left over.
        service: `dynamodb` or `s3`.
        operations: Names as in boto3's documents, `UpdateItem`; none means all of them.
        header: Only requests that carry this one: `If-None-Match`, as S3's conditional puts do.
        labourer_id: Only requests that name this labourer, as those for its queue and its retries do.
        nodes: Only requests of these processes, by their `TEST_NODE`, and of their children.
        until: The end of it, monotonic seconds.
        wait_s: What the caller waits before it learns of its fault.
        twins: With `STALE`, the table that answers in another one's place.
    """

    fault: Fault
    share: float = 1.0
    service: str = "dynamodb"
    operations: tuple[str, ...] = ()
    header: str = ""
    labourer_id: str = ""
    nodes: tuple[str, ...] = ()
    until: float = float("inf")
    wait_s: float = 0.0
    twins: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Injection:
    """One request that was struck; `at` is monotonic seconds."""

    fault: Fault
    operation: str
    at: float
    pid: int


class AwsFaults:
    """The test's side: sets the rules and reads what they did.

    Parameters:
        directory: Of this run; made when missing.
        seed: Of all chance; each process draws its own from it, in the order in which they first need some.
    """

    def __init__(self, directory: Path, seed: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._rules = directory / "rules.json"
        self._injections = directory / "injected.jsonl"
        #: For the processes under test, beside `TEST_IMPORTS` with the name of the module `aws_hook`.
        self.environment = {DIRECTORY: str(directory), SEED: str(seed)}
        self.set()

    def set(self, *rules: Rule, for_s: float | None = None) -> None:
        """Have these rules in force and no others: from the next request on, in all processes.

        Parameters:
            for_s: Seconds after which they all end.
        """
        texts = [asdict(rule) for rule in rules]
        if for_s is not None:
            texts = [{**text, "until": time.monotonic() + for_s} for text in texts]
        new = self._rules.with_suffix(".new")
        new.write_text(json.dumps(texts))
        new.replace(self._rules)

    def clear(self) -> None:
        """Have nothing go wrong any more."""
        self.set()

    def injections(self) -> list[Injection]:
        """Return every request that was struck so far."""
        if not self._injections.exists():
            return []
        lines = map(json.loads, self._injections.read_text().splitlines())
        return [Injection(**{**line, "fault": Fault(line["fault"])}) for line in lines]

    def counts(self) -> Counter[tuple[Fault, str]]:
        """Return how often each fault struck each operation."""
        return Counter((injection.fault, injection.operation) for injection in self.injections())


class RulesInForce:
    """The side of a process under test: which rules hold now, and this process's own chance. Safe for threads."""

    def __init__(self, directory: Path, seed: str) -> None:
        self._path = str(directory / "rules.json")
        self._injections = os.open(directory / "injected.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._order = os.open(directory / "order", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._seed = seed
        self._read: tuple[tuple[int, ...], dict[str, tuple[Rule, ...]]] = ((), {})
        self._chance: random.Random | None = None
        os.register_at_fork(after_in_child=self._forget_chance)

    def of(self, service: str) -> tuple[Rule, ...]:
        """Return the rules that are set for a service; some may have ended."""
        status = os.stat(self._path)
        key = (status.st_ino, status.st_mtime_ns, status.st_size)
        if self._read[0] != key:
            self._read = (key, self._load())
        return self._read[1].get(service, ())

    @property
    def chance(self) -> random.Random:
        """Chance of this process; a fork has its own."""
        if self._chance is None:
            os.write(self._order, b".")
            place = os.lseek(self._order, 0, os.SEEK_CUR)
            self._chance = random.Random(f"{self._seed}/{place}")
        return self._chance

    def note(self, fault: Fault, operation: str) -> None:
        """Write down that a request is struck."""
        line = {"fault": fault.value, "operation": operation, "at": time.monotonic(), "pid": os.getpid()}
        os.write(self._injections, json.dumps(line).encode() + b"\n")

    def _load(self) -> dict[str, tuple[Rule, ...]]:
        with open(self._path, encoding="utf-8") as file:
            rules = [_rule_of(line) for line in json.load(file)]
        return {
            name: tuple(rule for rule in rules if rule.service == name) for name in {rule.service for rule in rules}
        }

    def _forget_chance(self) -> None:
        self._chance = None


def _rule_of(line: dict[str, Any]) -> Rule:
    texts = {name: tuple(line[name]) for name in ("operations", "nodes")}
    return Rule(**{**line, **texts, "fault": Fault(line["fault"])})
