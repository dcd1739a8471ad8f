"""The system under test: servers of its own that may be killed, the processes of a cluster, and a client of both."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import threading
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import boto3
from celery import Celery

from sosw_celery.errors import StoreUnavailable
from sosw_celery.local import DynamoServer
from sosw_celery.names import SCHEDULER
from sosw_celery.stores.dynamodb.tables import create_tables
from sosw_celery.system.scheduler_task import SchedulerTask
from sosw_celery.wiring.container import services_of
from tests.faults.injectors.aws_rules import AwsFaults, Rule
from tests.faults.injectors.clocks import ChangingClock, wrong_clock
from tests.faults.injectors.lagging_index import LaggingIndexes
from tests.faults.injectors.redis_server import Redis
from tests.faults.injectors.tcp_proxy import LOOPBACK, TcpProxy
from tests.harness.waiting import wait_for
from tests.nursery import ROOT, Nursery

__all__ = ["ROLES", "Node", "System"]

MODULES = Path(__file__).parent / "modules"

#: What `celery` is called with for each kind of process: the first of it, the second, and so on. Nodes of one labourer
#: keep lines, those of two have a message for each task; without any one of the workers there are processes for all
#: slots. Of three workers the first alone serves the last three labourers.
ROLES: Mapping[str, Sequence[str]] = {
    "scheduler": ("worker -Q sosw_scheduler -P threads -c 2",),
    "orchestrator": ("worker -Q sosw_orchestrator,sosw_scavenger,sosw_worker_assistant -P threads -c 3",),
    "worker": (
        *("worker -Q note,count,hang,long,paced -c 17", "worker -Q note -c 5", "worker -Q count -c 2"),
        *("worker -Q hang -c 2", "worker -Q long,paced -c 8"),
    ),
    "beat": ("beat",),
}

AWS_HOOK, SUSPEND = "tests.faults.injectors.aws_hook", "tests.faults.injectors.suspend"

#: Seconds until a process that ended by itself is started again, and between two looks for such.
RESTART_S, SUPERVISED_EVERY_S = 1.0, 0.1

#: Has a process under test write the stacks of all its threads into its log.
WHERE_ARE_YOU = signal.SIGUSR2

POLL_S = 0.02
READY_S = 30.0


class Node:
    """One process with its children, and those that take its place after it ended.

    Parameters:
        number: Of the processes of its kind, from 1 on.
        environment: Beside that of the system; who takes its place has what it is then.
    """

    def __init__(self, system: System, role: str, number: int, environment: Mapping[str, str]) -> None:
        self._system = system
        self.role = role
        self.name = f"{role}{number}"
        forms = ROLES[role]
        self._command = forms[(number - 1) % len(forms)].split()
        self.environment = dict(environment)
        self.pid = 0
        self.starts = 0
        #: How often it was ended by somebody.
        self.ended_on_purpose = 0
        #: Seconds until its supervisor starts it again.
        self.restart_s = RESTART_S
        self.log = Path()
        #: Between it and Redis, where a fault needs that.
        self.way: TcpProxy | None = None

    def serves(self, queue: str) -> bool:
        """Return whether it takes messages of a queue."""
        return queue in self._command[-3].split(",") if self.role == "worker" else False

    def start(self) -> None:
        """Have it running: not ready yet."""
        self.starts += 1
        self.log = self._system.directory / f"{self.name}.{self.starts}.log"
        options = ["-l", "INFO"]
        if self.role != "beat":
            options += ["-n", f"{self.name}-{self.starts}@faults"]
        self.pid = self._system.nursery.start(
            [*self._command, *options],
            {**self._system.environment, **self.environment, "TEST_NODE": self.name, "TEST_ROLE": self.role},
            self._system.directory,
            self.log,
        ).pid

    @property
    def is_ready(self) -> bool:
        """Whether it has said that it waits for work."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return ("beat: Starting" if self.role == "beat" else " ready.") in text

    def wait_ready(self) -> None:
        """Wait until it says so.

        Raises:
            RuntimeError: It ended.
        """

        def is_ready() -> bool:
            if not self.lives:
                raise RuntimeError(f"{self.name} ended: {self.log.read_text(errors='replace')[-2000:]}")
            return self.is_ready

        wait_for(is_ready, READY_S, f"{self.name} to be ready")

    @property
    def lives(self) -> bool:
        """Whether its main process is there."""
        return not self._system.nursery.ended([self.pid])

    def signal(self, number: int, *, group: bool = False) -> None:
        """Signal the main process, or it and all of its children."""
        self._system.nursery.signal(self.pid, number, group=group)

    def end(self, number: int, *, restart_s: float, group: bool = False) -> None:
        """Send a signal that ends it; its supervisor starts it again so many seconds after that."""
        self.restart_s = restart_s
        self.ended_on_purpose += 1
        self.signal(number, group=group)

    def wait_restarted(self, starts: int, timeout_s: float) -> None:
        """Wait until it was started more than so many times; if not, its processes say in their log where they are.

        Raises:
            TimeoutError: It was not.
        """
        try:
            wait_for(lambda: self.starts > starts, timeout_s, f"{self.name} to be started again")
        except TimeoutError:
            self.signal(WHERE_ARE_YOU, group=True)
            raise


class System:
    """Everything that one run needs. Ends all of it at the end of the block.

    Parameters:
        directory: Takes logs and history.
        section: The `sosw` section, besides the addresses.
        needs: What has to be there for the run's faults, as in `Kind.needs`.
        imports: Modules that the processes under test import besides their labourers.
        seed: Of what the injectors draw by chance.
        clock_off_s: How fast the clock of the second Scheduler is, where a fault needs that.
    """

    def __init__(
        self,
        directory: Path,
        nursery: Nursery,
        section: Mapping[str, Any],
        *,
        needs: Collection[str] = (),
        imports: Sequence[str] = (),
        seed: int = 0,
        clock_off_s: int = 0,
    ) -> None:
        self.directory = directory
        self.nursery = nursery
        self.history = directory / "history"
        self.points = directory / "points"
        for path in (self.history, self.points):
            path.mkdir(parents=True)
        clock = ChangingClock(directory / "clock of redis") if "clock of redis" in needs else None
        self.redis = Redis(directory / "redis", clock)
        #: Follows it, where a fault needs that.
        self.replica = Redis(directory / "replica", clock) if "replica" in needs else None
        self.dynamodb = DynamoServer()
        self.nodes: list[Node] = []
        self._section = dict(section)
        self._needs = needs
        self._imports = [*imports]
        self._rules: list[Rule] = []
        self._rules_lock = threading.Lock()
        self._seed = seed
        self._clock_off_s = clock_off_s
        self._stopping = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        #: Held by who takes a server away, or cannot do without it.
        self.taken = {"redis": threading.Lock(), "dynamodb": threading.Lock()}
        #: Between the processes under test and a server, where a fault needs one.
        self.proxies: dict[str, TcpProxy] = {}
        self._stack = contextlib.ExitStack()
        self.environment: dict[str, str] = {}

    def __enter__(self) -> System:
        try:
            self._stack.callback(self.redis.stop)
            self.redis.start()
            if self.replica is not None:
                self._stack.callback(self.replica.stop)
                self.replica.start()
                self.replica.follow(self.redis)
            self._stack.callback(self.dynamodb.stop)
            self.dynamodb.start()
            self._configure()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_nodes()
        self._stack.close()

    def _configure(self) -> None:
        section = {
            "dynamodb_endpoint": self.dynamodb.endpoint,
            "queue_bucket": (self.directory / "queue").as_uri(),
            **self._section,
        }
        if "s3" in self._needs:
            section |= {"s3_endpoint": self._s3_endpoint(), "queue_bucket": self._bucket()}
        # Our own client goes its own way to Redis, so that what goes wrong on the others' does not hold the run up.
        own_way = TcpProxy(self.redis.port) if self.replica is not None else None
        self._own_way = self._stack.enter_context(own_way) if own_way is not None else None
        own_url = _redis_url(own_way.port if own_way is not None else self.redis.port)
        # Without a result backend: each result that is let go of would look for its Redis for 20 s, also after the run.
        self.app = Celery("client of the run", broker=own_url, set_as_current=False)
        # A client that is told to wait for a broker that is down would hold the run up.
        self.app.conf.broker_transport_options = {"socket_timeout": 2, "socket_connect_timeout": 2}
        self.app.conf.sosw = {**section, "redis_url": own_url}
        # A class of its own, because Celery binds classes to apps, and other runs have theirs.
        self.app.register_task(type("ClientsSchedulerTask", (SchedulerTask,), {})())
        self.services = services_of(self.app)
        self.settings = self.services.settings
        self._stack.callback(self.app.close)
        self._stack.callback(self.services.redis.close)
        create_tables(self.services.dynamodb, self.services.tables)
        self._redis_port = self._way_to("redis", self.redis.port)
        dynamodb = f"http://{LOOPBACK}:{self._way_to('dynamodb', self.dynamodb.port)}"
        self._section = {**section, "dynamodb_endpoint": dynamodb}
        self.environment = {
            **os.environ,
            **self._aws_environment(),
            "PYTHONPATH": f"{MODULES}{os.pathsep}{ROOT}",
            "CELERY_CONFIG_MODULE": "faults_config",
            **self._environment_of_redis(self._redis_port),
            "TEST_IMPORTS": " ".join(self._imports),
            "TEST_HISTORY": str(self.history),
            "TEST_POINTS": str(self.points),
        }

    def _environment_of_redis(self, port: int) -> Mapping[str, str]:
        url = _redis_url(port)
        return {"TEST_REDIS_URL": url, "TEST_SOSW": json.dumps({**self._section, "redis_url": url})}

    def _way_to(self, server: str, port: int) -> int:
        """Return the port at which the processes under test find a server."""
        if f"proxy of {server}" not in self._needs:
            return port
        self.proxies[server] = self._stack.enter_context(TcpProxy(port))
        return self.proxies[server].port

    def _aws_environment(self) -> Mapping[str, str]:
        if "lag" in self._needs:
            tables = [self.services.tables.tasks, self.services.tables.retry]
            self.lagging = self._stack.enter_context(LaggingIndexes(self.dynamodb.endpoint, tables, lag_s=0))
        if "suspend" in self._needs:
            self._imports.append(SUSPEND)
        if "aws" not in self._needs:
            return {}
        self._aws = AwsFaults(self.directory / "aws", self._seed)
        self._imports.append(AWS_HOOK)
        return self._aws.environment

    @contextlib.contextmanager
    def aws_rules(self, rules: Sequence[Rule]) -> Iterator[None]:
        """Have these rules in force beside others inside the block."""
        with self._rules_lock:
            self._rules += rules
            self._aws.set(*self._rules)
        try:
            yield
        finally:
            with self._rules_lock:
                self._rules = [rule for rule in self._rules if rule not in rules]
                self._aws.set(*self._rules)

    def _s3_endpoint(self) -> str:
        self.s3_endpoint = _moto_endpoint()
        return self.s3_endpoint

    def _bucket(self) -> str:
        # The server is one for all runs.
        bucket = f"queue-{uuid.uuid4().hex}"
        client: Any = boto3.client("s3", endpoint_url=self.s3_endpoint)
        client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": client.meta.region_name})
        client.close()
        return bucket

    # ---- processes

    def start(self, role: str, count: int, **environment: str) -> None:
        """Have so many processes of a kind running; `ready` waits for them."""
        for _ in range(count):
            number = sum(node.role == role for node in self.nodes) + 1
            own = {"TEST_BEAT_FILE": str(self.directory / f"{role}{number}.schedule")}
            if role == "scheduler" and number == 2 and "fast scheduler" in self._needs:
                own |= wrong_clock(self._clock_off_s)
            node = Node(self, role, number, {**own, **environment})
            if role == "worker" and "ways of nodes" in self._needs:
                node.way = self._stack.enter_context(TcpProxy(self._redis_port))
                node.environment |= self._environment_of_redis(node.way.port)
            node.start()
            self.nodes.append(node)

    def ready(self) -> None:
        """Wait until every process waits for work."""
        for node in self.nodes:
            node.wait_ready()

    def of(self, role: str) -> list[Node]:
        """Return the processes of a kind."""
        return [node for node in self.nodes if node.role == role]

    def supervise(self) -> None:
        """From now on, start every process again that has ended, whatever ended it."""
        self._supervisor.start()

    def _supervise(self) -> None:
        ended_at: dict[int, float] = {}
        while not self._stopping.wait(SUPERVISED_EVERY_S):
            ended = set(self.nursery.ended([node.pid for node in self.nodes]))
            for node in self.nodes:
                if node.pid not in ended:
                    continue
                since = ended_at.setdefault(node.pid, time.monotonic())
                if time.monotonic() >= since + node.restart_s:
                    node.start()
                    node.restart_s = RESTART_S

    @property
    def crashes(self) -> int:
        """How many processes have ended that nobody ended."""
        ends = sum(max(0, node.starts - 1) for node in self.nodes) + len(self.nursery.ended(self._pids))
        return ends - sum(node.ended_on_purpose for node in self.nodes)

    @property
    def _pids(self) -> list[int]:
        return [node.pid for node in self.nodes]

    def stop_nodes(self) -> None:
        """Have every process under test ended."""
        self._stopping.set()
        if self._supervisor.is_alive():
            self._supervisor.join()
        for node in self.nodes:
            node.signal(signal.SIGCONT, group=True)
            node.signal(signal.SIGKILL, group=True)
        pids = self._pids
        wait_for(lambda: len(self.nursery.ended(pids, group=True)) == len(pids), 20, "the end of all processes")

    # ---- servers

    def restart_redis(self, down_s: float, *, empty: bool) -> None:
        """Kill Redis and have it back after some seconds at the same port, with nothing in it or its last snapshot."""
        self.redis.kill()
        time.sleep(down_s)
        self.redis.come_back(empty=empty)

    def switch_redis(self) -> None:
        """Have the primary and its replica change places: whoever connects from now on finds the new primary."""
        assert self.replica is not None
        assert self._own_way is not None
        self.redis, self.replica = self.replica, self.redis
        for way in (self.proxies["redis"], self._own_way):
            way.target = self.redis.port

    # ---- jobs

    def submit(self, job: dict[str, Any], job_id: str, timeout_s: float) -> None:
        """Have a job accepted by `scheduler.delay(job)`; try again while the tables do not answer."""

        def accepted() -> bool:
            with contextlib.suppress(StoreUnavailable):
                self.app.tasks[SCHEDULER].delay({**job, "job_id": job_id})
                return True
            return False

        wait_for(accepted, timeout_s, f"job {job_id} to be accepted", poll_s=0.5)


def _redis_url(port: int) -> str:
    return f"redis://{LOOPBACK}:{port}/0"


@cache
def _moto_endpoint() -> str:
    """Start the one S3 server of this process, which ends with it, and return its address."""
    from moto.server import ThreadedMotoServer  # half a second that most runs can do without

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it tells of each request
    server = ThreadedMotoServer(LOOPBACK, 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    return f"http://{host}:{port}"
