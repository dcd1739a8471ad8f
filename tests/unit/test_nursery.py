"""The nursery of processes under test signals nobody else."""

from __future__ import annotations

import subprocess
import sys

from tests.nursery import ROOT

# A child with a child of its own, each in a group of its own, and a stranger, who has the number of a group that has
# ended: it is of this machine, and of nobody here.
SIGNALLING = """
import os, signal, subprocess, time
from tests.nursery import _Children

def runs(pid):
    return os.path.exists(f"/proc/{pid}/exe")  # what has ended and waits to be asked for has none

def wait(until):
    end = time.monotonic() + 10
    while not until() and time.monotonic() < end:
        time.sleep(0.01)

stranger = int(subprocess.run(["sh", "-c", "setsid sleep 60 >&- & echo $!"], stdout=subprocess.PIPE).stdout)
node = os.fork()
if not node:
    os.setsid()
    subprocess.Popen(["sleep", "60"], start_new_session=True)
    time.sleep(60)
children = _Children()
children.add(node)
wait(lambda: children.signal(node, 0, group=True) and len(children._groups[node]) == 2)
(of_child,) = children._groups[node] - {node}
children._groups[node].add(stranger)
children.signal(node, signal.SIGKILL, group=True)
wait(lambda: not runs(of_child))
wait(lambda: children.exit_status(node) is not None)
print(children.exit_status(node), runs(of_child), runs(stranger))
os.kill(stranger, signal.SIGKILL)
"""


def test_a_group_that_has_got_the_number_of_one_that_ended_is_left_alone() -> None:
    """A node is killed with the groups of its children, and not with a stranger's."""
    done = subprocess.run([sys.executable, "-c", SIGNALLING], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout.split() == ["-9", "False", "True"]
