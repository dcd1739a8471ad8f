"""Whether slots idled before the first fault, by the leases that Redis counted and not by the bodies that ran. Pure.

How busy bodies keep a slot is as much the machine's doing as the product's: between two of them stand a claim and a
close, which take as long as the machine needs for them. The leases tell the product's part alone. Whoever frees a slot
gives it in the same call to a task on standby, so while tasks stand by every slot has a lease, however slow the rest
is. (That goes for labourers without a rate. Those of the runs have none.)

A lease alone would also be there where hints get lost: then it is never taken up, and runs out. So as a second thing
leases that ran out are counted. The product allows a hint many times what it takes even on a machine under load.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.faults.evidence import Evidence, Look

__all__ = ["LEAST_LEASES", "LEAST_LOOKS", "Idling", "idling_of"]

#: Looks with tasks on standby, and leases, below which nothing is judged. A machine under load takes some 20 looks
#: in the seconds before a fault.
LEAST_LOOKS, LEAST_LEASES = 10, 10


@dataclass(frozen=True)
class Idling:
    """How the slots of one labourer idled before the first fault.

    Parameters:
        looks: Those that saw tasks on standby.
        idle: Share of them that saw a slot without a lease as well; None when there were too few.
        leases: Those that ran out, and the starts of bodies.
        lapsed: Share of them that ran out; None when there were too few.
    """

    labourer_id: str
    looks: int
    idle: float | None
    leases: int
    lapsed: float | None


def idling_of(labourer_id: str, cap: int, evidence: Evidence) -> Idling:
    """Return how a labourer's slots idled while nothing had gone wrong yet."""
    calm = [look for look in evidence.looks if look.labourer_id == labourer_id and look.at < evidence.calm_until]
    waiting = [look for look in calm if look.standby]
    idle = sum(look.pending + look.running < cap for look in waiting)
    lapses = max((look.lapses for look in calm), default=0)
    leases = lapses + _starts(labourer_id, calm, evidence)
    return Idling(
        labourer_id,
        looks=len(waiting),
        idle=idle / len(waiting) if len(waiting) >= LEAST_LOOKS else None,
        leases=leases,
        lapsed=lapses / leases if leases >= LEAST_LEASES else None,
    )


def _starts(labourer_id: str, looks: list[Look], evidence: Evidence) -> int:
    """Return how many bodies had started when the last look was taken."""
    until = max((look.at for look in looks), default=0.0)
    return sum(run.start <= until and evidence.labourer_of.get(run.task_id) == labourer_id for run in evidence.runs)
