"""Where, when and with what figures were made.

::

    date, command, seed
    machine   cpu, cores, memory_kib, architecture, virtualised, governor, kernel, system
    versions  python, tuttihub, numba, numpy
    hub       versions of the hub under test, as it or its command says
    commit    of the checkout we run from, "+" behind it when files were changed; "" elsewhere
    affinity  cores this process may use
    realtime  {"used": the generator had SCHED_FIFO, "limit": highest priority permitted}
"""

from __future__ import annotations

import os
import platform
import resource
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]
_PACKAGE = _ROOT / "loadtest"
_GIT_TIMEOUT_S = 5

_CODE = (".", ":!docs", ":!*.md", ":!loadtest/results")
"""Files whose change makes it another program: not the tables that measuring itself writes."""


def provenance(*, seed: int, realtime: bool, hub: dict[str, Any]) -> dict[str, Any]:
    """All of it, as far as it can be read here."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command(),
        "seed": seed,
        "machine": machine(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("tuttihub", "numba", "numpy")},
        "hub": hub,
        "commit": commit(),
        "affinity": sorted(os.sched_getaffinity(0)),
        "realtime": {"used": realtime, "limit": _realtime_limit()},
    }


def machine() -> dict[str, Any]:
    """The computer."""
    cpuinfo = _text(Path("/proc/cpuinfo")).splitlines()
    models = [line.split(":", 1)[1].strip() for line in cpuinfo if line.startswith("model name")]
    memory = [line.split()[1] for line in _text(Path("/proc/meminfo")).splitlines()[:1]]
    flags = next((line for line in cpuinfo if line.startswith("flags")), "")
    return {
        "cpu": models[0] if models else platform.processor() or "unknown",
        "cores": os.cpu_count() or 0,
        "memory_kib": int(memory[0]) if memory else 0,
        "architecture": platform.machine(),
        "virtualised": " hypervisor" in flags,
        "governor": _text(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")).strip(),
        "kernel": platform.release(),
        "system": _system(),
    }


@cache
def version(name: str) -> str:
    """Of an installed distribution."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


@cache
def commit() -> str:
    """Of the checkout that this module lies in, when we were first asked."""
    if not (_ROOT / ".git").exists():
        return ""
    head = _git("rev-parse", "--short=12", "HEAD")
    return head + "+" if head and _git("status", "--porcelain", "-uno", "--", *_CODE) else head


def command() -> str:
    """The command line, without the path of the program."""
    if not sys.argv or not sys.argv[0]:
        return "python"
    program = Path(sys.argv[0])
    if _PACKAGE in program.resolve().parents:
        parts = program.resolve().relative_to(_ROOT).with_suffix("").parts
        module = ".".join(part for part in parts if part != "__main__")
        return shlex.join(["python", "-m", module, *sys.argv[1:]])
    if program.name == "__main__.py":
        return shlex.join(["python", "-m", program.parent.name, *sys.argv[1:]])
    return shlex.join([program.name, *sys.argv[1:]])


def _git(*words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(_ROOT), *words],
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _realtime_limit() -> int:
    """The highest SCHED_FIFO priority that an ordinary process here is permitted."""
    soft = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
    return 99 if os.geteuid() == 0 or soft == resource.RLIM_INFINITY else soft


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return platform.system()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
