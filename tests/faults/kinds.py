"""The kinds of faults: how each is injected into a running system, and what happens after it.

Whatever ends, a supervisor starts again some seconds later.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.faults.checker import LATE_S
from tests.faults.evidence import FaultRecord, Freeze
from tests.faults.gather import running_pids
from tests.faults.injectors import suspend
from tests.faults.injectors.aws_rules import Fault as AwsFault
from tests.faults.injectors.aws_rules import Rule
from tests.faults.injectors.clocks import IS_AVAILABLE as CLOCKS_CAN_BE_WRONG
from tests.faults.injectors.clocks import NOTICED_S, wrong_clock
from tests.faults.injectors.messages import Messages, OldMessages
from tests.faults.plan import CAPS, STEADY, Fault, Kind, Profile
from tests.faults.system import Node, System
from tests.harness.waiting import wait_for

__all__ = ["KINDS", "inject"]

#: Where processes are struck, by their kind: calls, and for what is done to them.
SCHEDULER_POINTS = (
    *("JobTable.claim_chunking", "JobTable.begin_writing", "JobTable.claim_part", "JobTable.checkpoint"),
    *("JobTable.finish_part", "JobTable.finish_writing", "Scheduler.parse_job_to_file", "Scheduler.process_file"),
    *("PartWriter.write", "PartWriter._send", "PartWriter._put", "PartWriter._advance"),
)
ORCHESTRATOR_POINTS = (
    *("Slots.take", "Slots.begin_pass", "TaskTable.archive", "TaskTable._put_all", "TaskTable._delete_counted"),
    "TaskTable.requeue",
)
WORKER_POINTS = (
    *("Slots.confirm", "TaskTable.claim", "TaskTable.complete", "Slots.release", "TaskTable.fail"),
    *("Slots.hand_on", "TaskTable.complete_and_claim", "Worker._make_ready"),
)

#: Seconds until an order to strike at a point is taken back, because nobody came by.
POINT_TIMEOUT_S = 8.0
#: Seconds that a warm shutdown may take.
SHUTDOWN_S = 60.0
#: Seconds between two losses of messages while these go on.
LOSSES_EVERY_S = 0.5
#: Copies of a queue's messages at a time: where nobody takes them meanwhile, workers are busy with them long after it.
MOST_COPIES = 10


@dataclass
class Injection:
    """One fault in the making.

    Parameters:
        freezes: Takes what stood still.
    """

    system: System
    fault: Fault
    profile: Profile
    chance: random.Random
    freezes: list[Freeze]

    def pick(self, role: str, serves: str = "") -> Node:
        """Choose a process of a kind that lives; wait for one that is about to be restarted.

        Parameters:
            serves: It takes messages of this queue.
        """

        def living() -> list[Node]:
            return [node for node in self.system.of(role) if node.lives and (not serves or node.serves(serves))]

        wait_for(living, 30, f"a {role} that lives")
        return self.chance.choice(living())

    def restart_s(self) -> float:
        """Choose how long a supervisor takes."""
        return self.chance.uniform(*self.profile.restart_s)

    def record(self, at: float, over: float | None = None, **details: Any) -> FaultRecord:
        """Return what happened.

        Parameters:
            details: More of the record.
        """
        return FaultRecord(self.fault.kind, at, at if over is None else over, **details)

    def missed(self, why: str) -> FaultRecord:
        """Return that there was no occasion for it."""
        now = time.monotonic()
        return FaultRecord(self.fault.kind, now, now, happened=False, note=why)


Inject = Callable[[Injection], FaultRecord]


# ---- processes


def killed(role: str) -> Inject:
    """Kill a process with all of its children at any moment."""

    def kill(injection: Injection) -> FaultRecord:
        node = injection.pick(role)
        at = time.monotonic()
        node.end(signal.SIGKILL, restart_s=injection.restart_s(), group=True)
        return injection.record(at)

    return kill


def struck(role: str, points: Sequence[str], do: str) -> Inject:
    """Kill a process, or let it stand still, right before or right after a call."""

    def strike(injection: Injection) -> FaultRecord:
        chosen = f"{injection.chance.choice(('before', 'after'))} {injection.chance.choice(points)}"
        when, place = (injection.fault.place or chosen).split()
        nth = 1 if injection.fault.place else injection.chance.randint(1, 3)
        order = {"at": place, "when": when, "nth": nth, "do": do, "name": injection.fault.seed.replace("/", "-")}
        found = _carry_out(injection, role, order)
        if found is None:
            return injection.missed(f"nobody came {when} {place}")
        at, group = found
        record = FaultRecord(injection.fault.kind, at, at, note=f"{when} {place}")
        node = next((node for node in injection.system.of(role) if node.pid == group), None)
        if do == "freeze":
            _wake(injection, group, at)
        elif do == "kill all" and node is not None:
            node.ended_on_purpose += 1
        return record

    return strike


def _carry_out(injection: Injection, role: str, order: dict[str, object]) -> tuple[float, int] | None:
    points = injection.system.points
    armed, answer = points / f"{role}.armed", points / f"{order['name']}.struck"
    wait_for(lambda: not armed.exists(), 60, "another order to be carried out")
    armed.with_suffix(".new").write_text(json.dumps(order))
    armed.with_suffix(".new").replace(armed)
    with contextlib.suppress(TimeoutError):
        wait_for(answer.exists, POINT_TIMEOUT_S, "a process to come by")
    if not answer.exists():
        with contextlib.suppress(FileNotFoundError):
            armed.unlink()
            return None
        wait_for(answer.exists, 5, "the answer of who was struck")
    found = json.loads(answer.read_text())
    return found["at"], found["group"]


def workers_killed(injection: Injection) -> FaultRecord:
    """Kill all worker nodes at once; their supervisors take their time."""
    at = time.monotonic()
    for node in injection.system.of("worker"):
        if node.lives:
            node.end(signal.SIGKILL, restart_s=injection.profile.outage_s / 2, group=True)
    return injection.record(at)


def child_killed(injection: Injection) -> FaultRecord:
    """Kill one process of a pool in which a body runs."""
    node = injection.pick("worker")
    history = injection.system.history
    with contextlib.suppress(TimeoutError):
        wait_for(lambda: running_pids(history, node.pid), POINT_TIMEOUT_S, "a body to run")
    pids = running_pids(history, node.pid)
    if not pids:
        return injection.missed("no body ran")
    at = time.monotonic()
    with contextlib.suppress(ProcessLookupError):
        os.kill(injection.chance.choice(pids), signal.SIGKILL)
    return injection.record(at)


def deployed(number: int) -> Inject:
    """Replace every process by a new one, one after the other, each by a signal for a warm shutdown."""

    def deploy(injection: Injection) -> FaultRecord:
        at = time.monotonic()
        for node in list(injection.system.nodes):
            _replace(node, number)
        return injection.record(at, time.monotonic())

    return deploy


def _replace(node: Node, number: int) -> None:
    if node.lives:
        starts = node.starts
        node.end(number, restart_s=0.0)
        node.wait_restarted(starts, SHUTDOWN_S)


def frozen(*, main_only: bool) -> Inject:
    """Stop a worker node for longer than its leases, and let it go on."""

    def freeze(injection: Injection) -> FaultRecord:
        node = injection.pick("worker")
        at, pid = time.monotonic(), node.pid
        if not main_only:
            node.signal(signal.SIGSTOP, group=True)
            _wake(injection, pid, time.monotonic())
            return injection.record(at)
        node.signal(signal.SIGSTOP)
        time.sleep(injection.profile.freeze_s)
        injection.system.nursery.signal(pid, signal.SIGCONT)
        return injection.record(at)

    return freeze


def suspended(injection: Injection) -> FaultRecord:
    """Suspend the machine of a worker node for longer than its leases: its monotonic clock does not see that."""
    node = injection.pick("worker", serves="long")
    at, pid = time.monotonic(), node.pid
    node.signal(signal.SIGSTOP, group=True)
    time.sleep(injection.profile.freeze_s)
    suspend.add(injection.system.points, node.name, time.monotonic() - at)
    injection.freezes.append(Freeze(pid, at, time.monotonic()))
    injection.system.nursery.signal(pid, signal.SIGCONT, group=True)
    return injection.record(at)


def cut_off(injection: Injection) -> FaultRecord:
    """Have the network between one worker node and Redis swallow everything for longer than a lease."""
    node, at = injection.pick("worker", serves="long"), time.monotonic()
    assert node.way is not None
    node.way.hang()
    time.sleep(injection.profile.freeze_s)
    node.way.heal()
    node.way.cut()
    return injection.record(at)


def _wake(injection: Injection, group: int, at: float) -> None:
    time.sleep(max(0.0, at + injection.profile.freeze_s - time.monotonic()))
    injection.freezes.append(Freeze(group, at, time.monotonic()))
    injection.system.nursery.signal(group, signal.SIGCONT, group=True)


def wrong_clocks(sign: int) -> Inject:
    """Replace a worker node, and a process of the essentials, by ones whose clock is wrong."""

    def replace(injection: Injection) -> FaultRecord:
        at = time.monotonic()
        for role in ("worker", injection.chance.choice(("scheduler", "orchestrator"))):
            node = injection.pick(role)
            node.environment |= wrong_clock(sign * injection.profile.clock_off_s)
            _replace(node, signal.SIGTERM)
        return injection.record(at, time.monotonic())

    return replace


# ---- Redis


def redis_emptied(injection: Injection) -> FaultRecord:
    """Kill Redis; it is back, empty, after a moment."""
    with injection.system.taken["redis"]:
        at = time.monotonic()
        injection.system.restart_redis(injection.chance.uniform(0.1, 1), empty=True)
    return injection.record(at, time.monotonic(), loses_messages=True)


def redis_down(injection: Injection) -> FaultRecord:
    """Kill Redis; it is back, empty, after a long time."""
    with injection.system.taken["redis"]:
        at = time.monotonic()
        injection.system.restart_redis(injection.profile.outage_s, empty=True)
    return injection.record(at, time.monotonic(), loses_messages=True)


def old_snapshot(injection: Injection) -> FaultRecord:
    """Kill Redis; it is back after a moment with what it held some seconds ago, or longer ago than leases last."""
    profile, chance = injection.profile, injection.chance
    age_s = chance.choice((chance.uniform(0.5, profile.forgets_s), chance.uniform(1.1, 1.4) * profile.lease_s))
    with injection.system.taken["redis"]:
        injection.system.redis.keep()
        time.sleep(age_s)
        at = time.monotonic()
        injection.system.restart_redis(chance.uniform(0.1, 1), empty=False)
    return injection.record(at, time.monotonic(), loses_messages=True, note=f"{age_s:.1f} s old")


def failed_over(*, lives_on: bool) -> Inject:
    """Have the replica of Redis, which lost what was written last, take its place.

    Parameters:
        lives_on: The primary is the replica from then on, read-only, and keeps the connections that it has. Else it is
            killed, and is back as the replica after a while.
    """

    def fail_over(injection: Injection) -> FaultRecord:
        system = injection.system
        with system.taken["redis"]:
            primary, replica = system.redis, system.replica
            assert replica is not None
            replica.lead()
            time.sleep(injection.chance.uniform(0.1, injection.profile.forgets_s))
            at = time.monotonic()
            if lives_on:
                primary.follow(replica)
                system.switch_redis()
            else:
                primary.kill()
                system.switch_redis()
            over = time.monotonic()
            if not lives_on:
                time.sleep(injection.restart_s())
                primary.come_back(empty=True)
                primary.follow(replica)
        return injection.record(at, over, loses_messages=True)

    return fail_over


def clock_jumps(sign: int) -> Inject:
    """Have the clock of Redis jump, and stay there."""

    def jump(injection: Injection) -> FaultRecord:
        at = time.monotonic()
        clock = injection.system.redis.clock
        assert clock is not None
        clock.jump(sign * injection.profile.jump_s)
        time.sleep(NOTICED_S)
        return injection.record(at, time.monotonic())

    return jump


def stopped(server: str) -> Inject:
    """Have a server stand still: connections stay, nothing is answered."""

    def stop(injection: Injection) -> FaultRecord:
        with injection.system.taken[server]:
            pid = getattr(injection.system, server).pid
            at = time.monotonic()
            os.kill(pid, signal.SIGSTOP)
            time.sleep(injection.profile.outage_s)
            os.kill(pid, signal.SIGCONT)
        return injection.record(at, time.monotonic())

    return stop


# ---- the way to a server


def cut(server: str, every_s: tuple[float, float], times: float = math.inf, delay_s: float = 0.0) -> Inject:
    """Cut every connection to a server, again and again: also with a request, or half of an answer, under way.

    Parameters:
        every_s: Bounds of the time between two cuts.
        times: After so many it is over, and after an outage's time.
        delay_s: How long everything takes meanwhile, each way: so that cuts meet what takes a millisecond.
    """

    def cut_connections(injection: Injection) -> FaultRecord:
        proxy, at = injection.system.proxies[server], time.monotonic()
        end, cuts = at + injection.profile.outage_s, 0
        proxy.delay(to_server_s=delay_s, to_client_s=delay_s)
        while cuts < times and time.monotonic() < end:
            proxy.cut()
            cuts += 1
            time.sleep(injection.chance.uniform(*every_s))
        proxy.heal()
        return injection.record(at, time.monotonic())

    return cut_connections


def slow(server: str) -> Inject:
    """Have everything between us and a server take 50 to 150 ms longer each way."""

    def slow_down(injection: Injection) -> FaultRecord:
        proxy, at = injection.system.proxies[server], time.monotonic()
        there_s, back_s = (injection.chance.uniform(0.05, 0.15) for _ in range(2))
        proxy.delay(to_server_s=there_s, to_client_s=back_s)
        time.sleep(injection.profile.outage_s)
        proxy.heal()
        return injection.record(at, time.monotonic(), lag_s=back_s)

    return slow_down


def silent(server: str) -> Inject:
    """Have the network to a server swallow everything."""

    def fall_silent(injection: Injection) -> FaultRecord:
        proxy, at = injection.system.proxies[server], time.monotonic()
        proxy.hang()
        time.sleep(injection.profile.outage_s)
        proxy.heal()
        proxy.cut()
        return injection.record(at, time.monotonic())

    return fall_silent


# ---- messages


def messages_dropped(injection: Injection) -> FaultRecord:
    """Lose every message that waits or is under way, again and again."""
    messages = Messages(injection.system.services.redis, injection.chance.getrandbits(31))
    with injection.system.taken["redis"]:  # where there is none, nothing can get lost
        at = time.monotonic()
        for _ in _for_a_while(injection):
            for queue in (*CAPS, "sosw_orchestrator", "sosw_scheduler", "sosw_scavenger"):
                messages.drop(queue, 0.7)
        return injection.record(at, time.monotonic(), loses_messages=True)


def messages_doubled(injection: Injection) -> FaultRecord:
    """Deliver messages twice, and old ones again."""
    queues = (*CAPS, "sosw_orchestrator", "sosw_scheduler")
    client, seed = injection.system.services.redis, injection.chance.getrandbits(31)
    messages = Messages(client, seed)
    with injection.system.taken["redis"], OldMessages(client, queues, seed) as old:
        at = time.monotonic()
        for _ in _for_a_while(injection):
            for queue in queues:
                messages.duplicate(queue, 0.5, at_most=MOST_COPIES)
                old.deliver_again(queue, 5)
        return injection.record(at, time.monotonic())


def _for_a_while(injection: Injection) -> Iterator[None]:
    end = time.monotonic() + injection.profile.outage_s / 2
    while time.monotonic() < end:
        yield
        time.sleep(LOSSES_EVERY_S)


# ---- AWS


def aws(*faults: AwsFault, share: float, service: str = "dynamodb", wait_s: float = 0.0) -> Inject:
    """Have a share of the requests to a service go wrong for a while, in each of some ways."""

    def go_wrong(injection: Injection) -> FaultRecord:
        rules = [Rule(fault, share / len(faults), service, wait_s=wait_s) for fault in faults]
        at = time.monotonic()
        with injection.system.aws_rules(rules):
            time.sleep(injection.profile.outage_s)
        return injection.record(at, time.monotonic())

    return go_wrong


def index_lags(injection: Injection) -> FaultRecord:
    """Have the indexes show what the tables held some seconds ago."""
    at = time.monotonic()
    injection.system.lagging.lag_s = injection.chance.uniform(1, 4)
    with injection.system.aws_rules([injection.system.lagging.rule()]):
        time.sleep(injection.profile.outage_s)
    return injection.record(at, time.monotonic())


def throttling(share: float, **which: Any) -> list[Rule]:
    """Return rules by which so much is refused, in both ways that DynamoDB has to say that it is too much.

    Parameters:
        which: The requests, as a rule has them.
    """
    return [Rule(AwsFault.THROTTLED, share / 2, **which), Rule(AwsFault.REQUEST_LIMIT, share / (2 - share), **which)]


def fast_scheduler(injection: Injection) -> FaultRecord:
    """Throttle the writes of a Scheduler beside another one, when the clock of one of the two is fast.

    More often that of the other: it takes parts over while their owner waits to try again.
    """
    right, fast = injection.system.of("scheduler")
    node = injection.chance.choices((right, fast), (3, 1))[0]
    at = time.monotonic()
    with injection.system.aws_rules(throttling(0.9, operations=WRITES_OF_ROWS, nodes=(node.name,))):
        time.sleep(injection.profile.outage_s)
    return injection.record(at, time.monotonic(), note=f"{node.name} throttled")


def labourer_throttled(injection: Injection) -> FaultRecord:
    """Throttle whatever names one labourer, for longer than a lease; in the midst of it nodes of another one die.

    They die with their tasks, which have to be found as lost while the first labourer is still throttled.
    """
    system, profile = injection.system, injection.profile
    throttled, spared = injection.chance.sample(sorted(STEADY), 2)
    at = time.monotonic()
    with system.aws_rules(throttling(1.0, labourer_id=throttled)):
        time.sleep(profile.outage_s)
        killed_at = time.monotonic()
        doomed = [node for node in system.of("worker") if node.serves(spared) and not node.serves(throttled)]
        for node in doomed:
            node.end(signal.SIGKILL, restart_s=injection.restart_s(), group=True)
        time.sleep(profile.lease_s + LATE_S + SEEN_S)
    return injection.record(at, time.monotonic(), spares=(spared, killed_at))


AWS = frozenset({"aws"})
TWO_CLOCKS = AWS | {"clock", "fast scheduler"}
#: The calls by which rows of a job are written.
WRITES_OF_ROWS = ("BatchWriteItem", "BatchExecuteStatement", "PutItem")
#: Seconds that the throttling of a labourer lasts beyond the time in which lost tasks of another one have to be found.
SEEN_S = 3.0
REPLICATED = frozenset({"proxy of redis", "replica"})
REDIS_CLOCK = frozenset({"clock", "clock of redis"})
TO_REDIS, TO_DYNAMODB = frozenset({"proxy of redis"}), frozenset({"proxy of dynamodb"})

_ALL: dict[str, tuple[Kind, Inject]] = {
    kind.name: (kind, how)
    for kind, how in (
        (Kind("worker node killed", 1.2), killed("worker")),
        (Kind("scheduler killed"), killed("scheduler")),
        (Kind("scheduler killed at a point", waits=True), struck("scheduler", SCHEDULER_POINTS, "kill all")),
        (Kind("orchestrator killed", 0.5), killed("orchestrator")),
        (
            Kind("orchestrator killed at a point", 0.5, waits=True),
            struck("orchestrator", ORCHESTRATOR_POINTS, "kill all"),
        ),
        (Kind("all worker nodes killed", 1.7), workers_killed),
        (Kind("worker child killed"), child_killed),
        (Kind("worker child killed at a point", 1.2, waits=True), struck("worker", WORKER_POINTS, "kill")),
        (Kind("worker node killed at a point", 1.2, waits=True), struck("worker", WORKER_POINTS, "kill all")),
        (Kind("beat killed"), killed("beat")),
        (Kind("rolling deploy, SIGTERM", 0.5), deployed(signal.SIGTERM)),
        (Kind("rolling deploy, SIGINT", 0.5), deployed(signal.SIGINT)),
        (Kind("worker node frozen", 1.4), frozen(main_only=False)),
        (Kind("worker node frozen at a point", 1.4, waits=True), struck("worker", WORKER_POINTS, "freeze")),
        (Kind("worker main process frozen", 1.4), frozen(main_only=True)),
        (Kind("worker node suspended", 2.6, outlived=True, needs=frozenset({"suspend"})), suspended),
        (Kind("worker node cut off from Redis", 2.6, outlived=True, needs=frozenset({"ways of nodes"})), cut_off),
        (Kind("Redis emptied", 0.6), redis_emptied),
        (Kind("Redis down, then empty", 0.6, lasts=True), redis_down),
        (Kind("Redis back with an old snapshot", 2.0), old_snapshot),
        (Kind("Redis fail-over", 0.8, needs=REPLICATED), failed_over(lives_on=False)),
        (Kind("Redis fail-over, the old primary lives on", 0.8, needs=REPLICATED), failed_over(lives_on=True)),
        (Kind("clock of Redis jumps ahead", 0.6, needs=REDIS_CLOCK), clock_jumps(+1)),
        (Kind("clock of Redis jumps back", 0.6, needs=REDIS_CLOCK), clock_jumps(-1)),
        (Kind("Redis stopped", 0.6, lasts=True), stopped("redis")),
        (Kind("Redis connections cut", 0.4, needs=TO_REDIS), cut("redis", (0.5, 1.5), times=3)),
        (Kind("Redis slow", 0.3, lasts=True, needs=TO_REDIS), slow("redis")),
        (Kind("Redis swallowed by the network", 0.6, lasts=True, needs=TO_REDIS), silent("redis")),
        (Kind("messages dropped", 0.6), messages_dropped),
        (Kind("messages doubled", 0.6), messages_doubled),
        (Kind("DynamoDB stopped", 0.5, lasts=True), stopped("dynamodb")),
        (
            Kind("DynamoDB connections cut", 0.4, lasts=True, needs=TO_DYNAMODB),
            cut("dynamodb", (0.05, 0.5), delay_s=0.01),
        ),
        (Kind("DynamoDB slow", 0.4, lasts=True, needs=TO_DYNAMODB), slow("dynamodb")),
        (Kind("DynamoDB swallowed by the network", 0.6, lasts=True, needs=TO_DYNAMODB), silent("dynamodb")),
        (
            Kind("DynamoDB throttled", 0.4, lasts=True, needs=AWS),
            aws(AwsFault.THROTTLED, AwsFault.REQUEST_LIMIT, AwsFault.THROTTLING, share=0.3),
        ),
        (Kind("DynamoDB batches in part", 0.3, lasts=True, needs=AWS), aws(AwsFault.UNPROCESSED, share=0.5)),
        (
            Kind("DynamoDB errors before the write", 0.4, lasts=True, needs=AWS),
            aws(AwsFault.ERROR_BEFORE, AwsFault.RESET_BEFORE, share=0.2),
        ),
        (
            Kind("DynamoDB errors after the write", 0.4, lasts=True, needs=AWS),
            aws(AwsFault.ERROR_AFTER, AwsFault.RESET_AFTER, share=0.2),
        ),
        (
            Kind("DynamoDB answers lost", 0.4, lasts=True, needs=AWS),
            aws(AwsFault.TIMEOUT_AFTER, AwsFault.TIMEOUT_BEFORE, share=0.05, wait_s=2),
        ),
        (Kind("DynamoDB conflicts", 0.3, lasts=True, needs=AWS), aws(AwsFault.CONFLICT, share=0.3)),
        (Kind("DynamoDB refused", 0.5, lasts=True, needs=AWS), aws(AwsFault.REFUSED, share=1.0)),
        (Kind("DynamoDB index lags", 0.4, lasts=True, needs=frozenset({"aws", "lag"})), index_lags),
        (Kind("a labourer throttled", 2.0, lasts=True, needs=AWS), labourer_throttled),
        (
            Kind(
                "a scheduler throttled beside a fast one",
                lasts=True,
                waits=True,
                fresh=True,
                needs=AWS | {"clock", "fast scheduler"},
            ),
            fast_scheduler,
        ),
        (
            Kind("S3 errors", 0.2, lasts=True, waits=True, needs=frozenset({"aws", "s3"})),
            aws(AwsFault.ERROR_BEFORE, AwsFault.THROTTLED, share=0.4, service="s3"),
        ),
        (
            Kind("S3 answers lost", 0.2, lasts=True, waits=True, needs=frozenset({"aws", "s3"})),
            aws(AwsFault.ERROR_AFTER, AwsFault.RESET_AFTER, share=0.4, service="s3"),
        ),
        (Kind("clock fast", 0.3, needs=frozenset({"clock"})), wrong_clocks(+1)),
        (Kind("clock slow", 0.3, needs=frozenset({"clock"})), wrong_clocks(-1)),
    )
}

#: Every kind that can be injected on this machine.
KINDS: Sequence[Kind] = [kind for kind, _ in _ALL.values() if CLOCKS_CAN_BE_WRONG or "clock" not in kind.needs]


def inject(system: System, fault: Fault, profile: Profile, freezes: list[Freeze]) -> FaultRecord:
    """Inject a fault, and return when it is over and what it struck is on its way back."""
    injection = Injection(system, fault, profile, random.Random(fault.seed), freezes)
    return _ALL[fault.kind][1](injection)
