"""Whether processes grow with the number of tasks that they have handled.

    python -m benchmarks.memory [--tasks 100000]

One labourer's tasks are drained, all queued before, by one worker of two processes, with the system's own worker and
beat. The resident memory of each process is looked at again and again; compared are the medians of the looks at 20 to
25 % and at 95 to 100 % of the tasks. Flat is: grown by less than 5 %, or by less than 3 MB. The DynamoDB engine is left
out: here it keeps its tables in memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from benchmarks.figures import Figure, main, median, tell
from benchmarks.system import Servers, System

FULL = {"tasks": 100_000}
QUICK = {"tasks": 1500}

PROCESSES = 2
SLOTS = 10
LOOKS = 200
SLOWEST_PER_S = 20
START_S = 60.0
MEGABYTE = 1_000_000
FLAT_SHARE, FLAT_MB = 0.05, 3.0

#: Share of the tasks that had ended, and bytes.
Looks = Sequence[tuple[float, int]]


def measure(tasks: int) -> list[Figure]:
    """Return the growth of each process beyond what is flat."""
    looks = drain(tasks)
    return [grown(name, sizes) for name, sizes in sorted(_by_name(looks).items())]


def drain(tasks: int) -> Mapping[tuple[str, int], Looks]:
    """Drain so many tasks and return what was seen of each process."""
    looks: defaultdict[tuple[str, int], list[tuple[float, int]]] = defaultdict(list)
    with Servers() as servers, System(servers, slots=SLOTS) as system:
        job_id = system.queue(tasks)
        system.start_own()
        system.start_node(PROCESSES)
        for look in range(1, LOOKS + 1):
            system.wait_for_runs(tasks * look // LOOKS, START_S + tasks / SLOWEST_PER_S)
            for usage in system.usage():
                looks[usage.name, usage.pid].append((look / LOOKS, usage.resident))
            if look * 10 % LOOKS == 0:
                tell(f"memory: {look / LOOKS:.0%} of {tasks:,} tasks")
        system.wait_for_end(job_id, START_S + tasks / SLOWEST_PER_S)
    return {who: seen for who, seen in looks.items() if who[0] != "DynamoDB engine"}


def _by_name(looks: Mapping[tuple[str, int], Looks]) -> dict[str, list[tuple[float, float]]]:
    """Return early and late megabytes of each process, by its name; some have been replaced by others meanwhile."""
    found: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for (name, _), seen in looks.items():
        early = [memory for share, memory in seen if 0.2 <= share <= 0.25]
        late = [memory for share, memory in seen if share >= 0.95]
        if early and late:
            found[name].append((median(early) / MEGABYTE, median(late) / MEGABYTE))
    return found


def grown(name: str, sizes: Sequence[tuple[float, float]]) -> Figure:
    """Return how many megabytes the process of this name that grew most has grown beyond what is flat.

    Parameters:
        sizes: Early and late megabytes of each.
    """
    beyond = max(late - max(early * (1 + FLAT_SHARE), early + FLAT_MB) for early, late in sizes)
    detail = ", ".join(f"{early:.1f} to {late:.1f}" for early, late in sizes)
    return Figure(f"memory of {name}, growth beyond flat", max(0.0, beyond), "MB", at_most=0, detail=f"MB: {detail}")


if __name__ == "__main__":
    main(__doc__, measure, FULL, QUICK)
