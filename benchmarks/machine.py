"""What a benchmark ran on: figures of two machines cannot be compared, those of one run can."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil

from sosw_celery.local import engines

__all__ = ["busy_share", "description"]

PACKAGES = ("celery", "kombu", "redis", "boto3", "sosw")
LOOK_S = 2.0


def description() -> str:
    """Return processor, memory, system and versions in one line."""
    gigabytes = psutil.virtual_memory().total / 1e9
    machine = f"{_processor()}, {os.cpu_count()} cores, {gigabytes:.0f} GB, {platform.system()} {platform.release()}"
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return f"{machine}; Python {platform.python_version()}, {packages}, {_redis()}, {_dynamodb()}"


def busy_share() -> float:
    """Return which share of all cores is busy right now; takes two seconds."""
    return psutil.cpu_percent(LOOK_S) / 100


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _redis() -> str:
    answer = subprocess.run([engines.redis_server(), "--version"], capture_output=True, text=True, check=True).stdout
    found = [word for word in answer.split() if word.startswith("v=")]
    return f"Redis {found[0].removeprefix('v=')}" if found else "Redis"


def _dynamodb() -> str:
    engine = engines.dynamodb_engine()
    return engine.name if engine.shortfall else f"{engine.name} {engines.DYNOXIDE_VERSION}"
