"""Looks for known weaknesses: in our code (bandit), and in the packages it stands on (pip-audit).

pip-audit asks the advisory service of PyPI. Where that has no data to give (an offline machine, a mirror of packages
alone), nothing of the packages was audited, and this says so; with CI=true that is a failure.

    python tools/audit.py [SITE_PACKAGES]

Without the directory only the code is looked at.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OURS = ("sosw_celery", "workers", "tools", "celeryconfig.py")


def main(site_packages: str | None = None) -> int:
    """Print what was found and return the exit status."""
    found_in_code = _bandit()
    found_in_packages = site_packages is not None and _packages(site_packages)
    return int(found_in_code or found_in_packages)


def _bandit() -> bool:
    """Return whether bandit has findings; what is silenced, and why, stands in pyproject.toml and beside the line."""
    command = ["bandit", "--quiet", "--recursive", "--configfile", "pyproject.toml", *OURS]
    status = subprocess.run([sys.executable, "-m", *command], cwd=ROOT).returncode
    print("code: findings above" if status else "code: bandit finds nothing")
    return status != 0


def _packages(site_packages: str) -> bool:
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--path",
        site_packages,
        "--format",
        "json",
        "--progress-spinner",
        "off",
    ]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    try:
        packages: list[dict[str, Any]] = json.loads(answer.stdout)["dependencies"]
    except (ValueError, KeyError):
        return _not_audited(answer.stderr.strip().splitlines()[-1:] or ["pip-audit gave no answer"])
    return judge(packages)


def judge(packages: list[dict[str, Any]]) -> bool:
    """Print what pip-audit says of each package and return whether that is a failure."""
    audited = [package for package in packages if "vulns" in package]
    for package in audited:
        for weakness in package["vulns"]:
            fixed = ", ".join(weakness.get("fix_versions") or ["none yet"])
            print(f"package {package['name']} {package['version']}: {weakness['id']}, fixed in: {fixed}")
    if not audited:
        return _not_audited([f"the advisory service knows none of the {len(packages)} packages"])
    print(f"packages: {len(audited)} of {len(packages)} audited")
    return any(package["vulns"] for package in audited)


def _not_audited(reason: list[str]) -> bool:
    print(f"packages: NOT AUDITED: {reason[0]}")
    return os.environ.get("CI") == "true"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
