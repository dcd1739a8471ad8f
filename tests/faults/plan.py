"""What a run does, drawn from its seed: its jobs, its faults and when. Pure: the same seed gives the same plan.

Processes and servers take their own time, so two runs of one plan are alike and not the same.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CAPS", "DEFAULT", "MAX_ATTEMPTS", "SHORT", "Fault", "JobPlan", "Kind", "Plan", "Profile", "make_plan"]

CAPS = {"note": 5, "count": 2}
#: Far more than faults can cost one task: so no task dies but those whose body never ends well.
MAX_ATTEMPTS = 8

#: Of four runs in a row so many have one fault alone; the others have several.
ALONE_OF_FOUR = 3
MOST_MIXED = 4

#: Share of the tasks that misbehave, how, and in how many attempts. They stand first in their job.
MANNERS = (
    ("raise once", 0.02, {"manner": "raise", "bad_attempts": 1}),
    ("raise twice", 0.01, {"manner": "raise", "bad_attempts": 2}),
    ("ask for a retry", 0.01, {"manner": "later", "bad_attempts": 1}),
    ("end the process", 0.005, {"manner": "exit", "bad_attempts": 1}),
    ("kill the process", 0.005, {"manner": "kill", "bad_attempts": 1}),
    ("never end well", 0.005, {"manner": "raise", "bad_attempts": 99}),
)


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
        stall_s: A run in which nothing happens for so long is given up.
        timeout_s: So is one that takes longer than this.
        clock_off_s: How wrong a wrong clock is.
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
    timeout_s=400,
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
    stall_s=40,
    timeout_s=100,
)


@dataclass(frozen=True)
class Kind:
    """What the plan has to know of a kind of fault.

    Parameters:
        recovery_leases: How long slots may be in less than full use after it, in leases.
        lasts: It takes `outage_s`; False: it is over at once.
        waits: It waits for a process to come by at some point of its work: a job has to be submitted after it.
        needs: What has to be there for it: `proxy of redis`, `proxy of dynamodb`, `aws`, `lag`, `s3`, `clock`.
    """

    name: str
    recovery_leases: float = 0.2
    lasts: bool = False
    waits: bool = False
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
        lease_s = float(profile.section.get("lease_s", 20))
        work_s = max(work_s, at_s + outage_s + kind.recovery_leases * lease_s)
    jobs = _jobs(seed, work_s + profile.tail_s, list(zip(chosen, faults, strict=True)), chance)
    return Plan(seed, profile, faults, jobs, frozenset().union(*(kind.needs for kind in chosen)))


def _draw(seed: int, kinds: Sequence[Kind], chance: random.Random) -> Sequence[Kind]:
    rounds, place = divmod(seed, ALONE_OF_FOUR + 1)
    if place < ALONE_OF_FOUR:
        return [kinds[(rounds * ALONE_OF_FOUR + place) % len(kinds)]]
    return chance.sample(list(kinds), chance.randint(2, MOST_MIXED))


def _jobs(seed: int, work_s: float, faults: Sequence[tuple[Kind, Fault]], chance: random.Random) -> Sequence[JobPlan]:
    """Return jobs that keep all slots busy for so long, one of them submitted around each fault."""
    seconds = {"note": chance.choice((0.15, 0.25, 0.35)), "count": chance.choice((0.12, 0.2))}
    total = {name: int(work_s * CAPS[name] / seconds[name]) for name in CAPS}
    small = _job(seed, "small", "note", 30, 0.02, (0, chance.uniform(0.5, 1) * work_s), chance)
    count = _job(seed, "count", "count", total["count"], seconds["count"], (0, chance.uniform(0, 3)), chance)
    early = int(total["note"] * chance.uniform(0.4, 0.7))
    jobs = [small, count, _job(seed, "note", "note", early, seconds["note"], (0,), chance)]
    for index, (kind, fault) in enumerate(faults):
        tasks = (total["note"] - early) // len(faults)
        at_s = fault.at_s + (chance.uniform(0.1, 0.4) if kind.waits else chance.uniform(-0.4, 0.2))
        again_s = (at_s + chance.uniform(0, 2),) if chance.random() < 0.3 else ()
        jobs.append(_job(seed, f"wave{index}", "note", tasks, seconds["note"], (at_s, *again_s), chance))
    return jobs


def _job(
    seed: int,
    name: str,
    labourer_id: str,
    tasks: int,
    seconds: float,
    submit_at_s: Sequence[float],
    chance: random.Random,
) -> JobPlan:
    groups: dict[str, dict[str, Any]] = {}
    first = 0
    for manner, share, entries in MANNERS:
        count = int(share * tasks + chance.random())
        if count:
            groups[manner] = {"values": list(range(first, first + count)), **entries}
            first += count
    groups["fine"] = {"values": list(range(first, max(first + 1, tasks)))}
    job = {"lambda_name": labourer_id, "isolate_values": True, "seconds": seconds, "groups": groups}
    count = sum(len(group["values"]) for group in groups.values())
    return JobPlan(f"run-{seed}-{name}", job, count, tuple(round(at_s, 3) for at_s in submit_at_s))
