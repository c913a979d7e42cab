"""Where and with what a measurement was made."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import scipy

import fastrnn as fr

__all__ = ["machine_record"]


def machine_record(versions: dict[str, str]) -> dict[str, str]:
    """Return CPU, instruction set, versions and date; `versions` are those of the peers."""
    build = {f"build {key}": str(value) for key, value in fr.build_info().items()}
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": _cpu_name(),
        "cores": str(_cores()),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "isa": fr.get_isa(),
        "python": platform.python_version(),
        "fastrnn": fr.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        **versions,
        **build,
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Processor"):
            return value.strip()
    return platform.processor() or platform.machine()
