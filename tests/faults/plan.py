"""What a run does, drawn from its seed: its jobs, its faults and when. Pure: the same seed gives the same plan.

Processes and servers take their own time, so two runs of one plan are alike and not the same.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CAPS", "DEFAULT", "MAX_ATTEMPTS", "SHORT", "Fault", "JobPlan", "Kind", "Plan", "Profile", "make_plan"]

#: The labourers. Bodies of `hang` would outlive their time limit now and then, those of `long` take a part of a lease,
#: or more than one, and `paced` may start so many in a second.
CAPS = {"note": 5, "count": 2, "hang": 2, "long": 2, "paced": 6}
RATES = {"paced": 6}
#: How many of those may start at once.
BURST = 2
#: Those whose slots are always in use: the others wait for their rate, or for a process in the place of a killed one.
STEADY = frozenset({"note", "count"})
#: Far more than faults can cost one task: so no task dies but those whose body never ends well.
MAX_ATTEMPTS = 8

#: Of four runs in a row so many have one fault alone; the others have several.
ALONE_OF_FOUR = 3
MOST_MIXED = 4

#: Share of the tasks that misbehave, how, and in how many attempts.
MANNERS = (
    ("raise once", 0.02, {"manner": "raise", "bad_attempts": 1}),
    ("raise twice", 0.01, {"manner": "raise", "bad_attempts": 2}),
    ("ask for a retry", 0.01, {"manner": "later", "bad_attempts": 1}),
    ("end the process", 0.005, {"manner": "exit", "bad_attempts": 1}),
    ("kill the process", 0.005, {"manner": "kill", "bad_attempts": 1}),
    ("never end well", 0.005, {"manner": "raise", "bad_attempts": 99}),
)
#: The same for `hang`: so that it hangs half of the time.
HANGING = (
    ("hang", 0.06, {"manner": "hang", "bad_attempts": 1}),
    ("hang in C", 0.04, {"manner": "hang in C", "bad_attempts": 1}),
)
#: Seconds of its other bodies, and of those of `paced`.
HANG_S, PACED_S = 0.25, 0.2
#: How long bodies of `long` take, in leases; and the one that is to outlive a lease from the first fault on.
LONG_LEASES, BEYOND_LEASES, BEYOND_S = 0.25, 1.25, 5.0
#: Where a queue is to be empty: tasks before the fault, and jobs after it, with so many short tasks each: some parts.
UNDER_WAY_TASKS, FRESH_JOBS, FRESH_TASKS, FRESH_S, FRESH_EVERY_S = 40, 3, 450, 0.02, 3.0
#: Tasks of a job that have all of its manners once more: so they come at any time of a run.
TASKS_PER_ROUND = 200


@dataclass(frozen=True)
class Profile:
    """How long things take in a kind of runs.

    Parameters:
        section: What the `sosw` section says besides labourers and addresses.
        outage_s: What is stopped is stopped for so long.
        freeze_s: Longer than a lease.
        restart_s: Bounds of the time until a supervisor restarts what was killed.
        first_s: Bounds of the time from when work is under way to the first fault.
        gap_s: Bounds of the time between two faults.
        tail_s: Work that is left when the last fault is over, seconds.
        stall_s: A run in which nothing happens for so long is given up; where a clock is wrong, `clock_off_s` later.
        timeout_s: So is one that takes longer than this.
        clock_off_s: How wrong a wrong clock is.
        jump_s: How far a clock jumps.
        limit_s: The time limit of `hang`.
        forgets_s: How much a replica of Redis may lack at most.
    """

    name: str
    section: Mapping[str, Any]
    outage_s: float
    freeze_s: float
    restart_s: tuple[float, float]
    first_s: tuple[float, float]
    gap_s: tuple[float, float]
    tail_s: float
    stall_s: float
    timeout_s: float
    clock_off_s: int = 300
    jump_s: int = 30
    limit_s: float = 3.0
    forgets_s: float = 8.0

    @property
    def lease_s(self) -> float:
        """How long a lease lasts."""
        return float(self.section.get("lease_s", 20))


#: Every time that counts for recovery is the one that users get without a word in their configuration.
DEFAULT = Profile(
    name="default",
    section={"rows_to_process": 50, "rows_per_file": 200},
    outage_s=20,
    freeze_s=26,
    restart_s=(1, 5),
    first_s=(2.5, 5),
    gap_s=(0, 12),
    tail_s=5,
    stall_s=150,
    timeout_s=600,
)
#: For the tests: leases and pauses of a few seconds.
SHORT = Profile(
    name="short",
    section={
        **{"rows_to_process": 50, "rows_per_file": 200},
        **{"lease_s": 4, "renew_s": 0.7, "hint_lease_s": 2, "settle_s": 1.5, "safety_net_s": 0.5, "sweep_s": 0.5},
        **{"part_lease_s": 5, "sweep_jobs_s": 1},
    },
    outage_s=4,
    freeze_s=6,
    restart_s=(0.2, 1),
    first_s=(2.3, 3),
    gap_s=(0, 3),
    tail_s=3,
    stall_s=60,
    timeout_s=150,
    limit_s=1.5,
    forgets_s=2.5,
)


@dataclass(frozen=True)
class Kind:
    """What the plan has to know of a kind of fault.

    Parameters:
        recovery_leases: How long slots may be in less than full use after it, in leases.
        lasts: It takes `outage_s`; False: it is over at once.
        waits: It waits for a process to come by at some point of its work: a job has to be submitted after it.
        outlived: Bodies that outlive a lease are at work meanwhile.
        fresh: What is submitted around it finds an empty queue, in several jobs: tasks run as soon as they are written.
        needs: What has to be there for it: `proxy of redis`, `proxy of dynamodb`, `ways of nodes`, `replica`, `aws`,
            `lag`, `s3`, `clock`, `clock of redis`, `fast scheduler`, `suspend`.
    """

    name: str
    recovery_leases: float = 0.2
    lasts: bool = False
    waits: bool = False
    outlived: bool = False
    fresh: bool = False
    needs: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Fault:
    """A fault to be injected.

    Parameters:
        at_s: Seconds after work is well under way.
        seed: Of the choices that are made when it is injected.
        place: Where it strikes, as `before TaskTable.complete`, when that is not left to the seed.
    """

    kind: str
    at_s: float
    seed: str
    place: str = ""


@dataclass(frozen=True)
class JobPlan:
    """A job, and when it is submitted: 0 at the beginning, else seconds after work is well under way."""

    job_id: str
    job: Mapping[str, Any]
    tasks: int
    submit_at_s: Sequence[float]


@dataclass(frozen=True)
class Plan:
    """All that a run does."""

    seed: int
    profile: Profile
    faults: Sequence[Fault]
    jobs: Sequence[JobPlan]
    needs: frozenset[str] = field(default_factory=frozenset)

    @property
    def tasks(self) -> int:
        """How many tasks all jobs have."""
        return sum(job.tasks for job in self.jobs)

    @property
    def title(self) -> str:
        """What goes wrong, in the order in which it does."""
        return " + ".join(fault.kind for fault in self.faults) or "no fault"


def make_plan(seed: int, profile: Profile, kinds: Sequence[Kind], only: Sequence[str] = ()) -> Plan:
    """Return the plan of a seed.

    Seeds in a row go through all kinds, each alone; every fourth run mixes some.

    Parameters:
        only: The kinds of the faults to inject, in this order, instead of what the seed draws.
    """
    chance = random.Random(seed)
    by_name = {kind.name: kind for kind in kinds}
    chosen = [by_name[name] for name in only] if only else _draw(seed, kinds, chance)
    faults: list[Fault] = []
    at_s, work_s = 0.0, profile.first_s[1]
    for index, kind in enumerate(chosen):
        at_s += chance.uniform(*(profile.gap_s if index else profile.first_s))
        faults.append(Fault(kind.name, round(at_s, 3), f"{seed}/{index}"))
        outage_s = profile.outage_s if kind.lasts else 0.0
        work_s = max(work_s, at_s + outage_s + kind.recovery_leases * profile.lease_s)
    jobs = _jobs(seed, work_s + profile.tail_s, profile, list(zip(chosen, faults, strict=True)), chance)
    return Plan(seed, profile, faults, jobs, frozenset().union(*(kind.needs for kind in chosen)))


def _draw(seed: int, kinds: Sequence[Kind], chance: random.Random) -> Sequence[Kind]:
    rounds, place = divmod(seed, ALONE_OF_FOUR + 1)
    if place < ALONE_OF_FOUR:
        return [kinds[(rounds * ALONE_OF_FOUR + place) % len(kinds)]]
    return chance.sample(list(kinds), chance.randint(2, MOST_MIXED))


def _jobs(
    seed: int, work_s: float, profile: Profile, faults: Sequence[tuple[Kind, Fault]], chance: random.Random
) -> Sequence[JobPlan]:
    """Return jobs that keep all slots busy for so long, one of them submitted around each fault."""
    seconds = {"note": chance.choice((0.15, 0.25, 0.35)), "count": chance.choice((0.12, 0.2))}
    total = {name: int(work_s * CAPS[name] / seconds[name]) for name in STEADY}
    small = _job(seed, "small", "note", 30, 0.02, (0, chance.uniform(0.5, 1) * work_s), chance)
    count = _job(seed, "count", "count", total["count"], seconds["count"], (0, chance.uniform(0, 3)), chance)
    is_fresh = any(kind.fresh for kind, _ in faults)
    early = UNDER_WAY_TASKS if is_fresh else int(total["note"] * chance.uniform(0.4, 0.7))
    jobs = [small, count, _job(seed, "note", "note", early, seconds["note"], (0,), chance)]
    for index, (kind, fault) in enumerate(faults):
        tasks = (total["note"] - early) // len(faults)
        at_s = fault.at_s + (chance.uniform(0.1, 0.4) if kind.waits else chance.uniform(-0.4, 0.2))
        again_s = (at_s + chance.uniform(0, 2),) if chance.random() < 0.3 else ()
        for number in range(FRESH_JOBS if kind.fresh else 0):
            jobs.append(_job(seed, f"fresh{index}.{number}", "note", FRESH_TASKS, FRESH_S, (at_s,), chance))
            at_s += FRESH_EVERY_S
        times = (at_s, *(at + FRESH_JOBS * FRESH_EVERY_S for at in again_s)) if kind.fresh else (at_s, *again_s)
        jobs.append(_job(seed, f"wave{index}", "note", tasks, seconds["note"], times, chance))
    outlived = any(kind.outlived for kind, _ in faults)
    return [*jobs, _hang(seed, work_s, profile, chance), _long(seed, work_s, profile, outlived), _paced(seed, work_s)]


def _hang(seed: int, work_s: float, profile: Profile, chance: random.Random) -> JobPlan:
    hanging = sum(share for _, share, _ in HANGING)
    each_s = HANG_S * (1 - hanging) + profile.limit_s * hanging
    return _job(seed, "hang", "hang", int(work_s * CAPS["hang"] / each_s), HANG_S, (0,), chance, HANGING)


def _long(seed: int, work_s: float, profile: Profile, outlived: bool) -> JobPlan:
    """Return a job of long bodies. The first may outlive a lease, in a call that lets no other thread of it run."""
    seconds = LONG_LEASES * profile.lease_s
    tasks = max(2, int(work_s * CAPS["long"] / seconds))
    # From before the fault until its successor has been at work for some seconds, once its lease has ended.
    beyond_s = profile.first_s[1] + BEYOND_LEASES * profile.lease_s + BEYOND_S
    groups: dict[str, dict[str, Any]] = {"in C": {"values": [0], "in_c_s": beyond_s}} if outlived else {}
    groups["fine"] = {"values": list(range(len(groups), tasks))}
    return JobPlan(f"run-{seed}-long", _definition("long", seconds, groups), tasks, (0,))


def _paced(seed: int, work_s: float) -> JobPlan:
    tasks = int(work_s * RATES["paced"])
    return JobPlan(
        f"run-{seed}-paced", _definition("paced", PACED_S, {"fine": {"values": list(range(tasks))}}), tasks, (0,)
    )


def _job(
    seed: int,
    name: str,
    labourer_id: str,
    tasks: int,
    seconds: float,
    submit_at_s: Sequence[float],
    chance: random.Random,
    manners: Sequence[tuple[str, float, Mapping[str, Any]]] = MANNERS,
) -> JobPlan:
    """Return a job of which a share misbehaves, in rounds that begin with those."""
    groups: dict[str, dict[str, Any]] = {}
    first = 0
    rounds = max(1, tasks // TASKS_PER_ROUND)
    for number in range(rounds):
        end = tasks * (number + 1) // rounds
        for manner, share, entries in manners:
            count = int(share * tasks / rounds + chance.random())
            if count:
                groups[f"{manner} {number}"] = {"values": list(range(first, first + count)), **entries}
                first += count
        groups[f"fine {number}"] = {"values": list(range(first, max(first + 1, end)))}
        first = max(first + 1, end)
    times = tuple(round(at_s, 3) for at_s in submit_at_s)
    return JobPlan(f"run-{seed}-{name}", _definition(labourer_id, seconds, groups), first, times)


def _definition(labourer_id: str, seconds: float, groups: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {"lambda_name": labourer_id, "isolate_values": True, "seconds": seconds, "groups": groups}
