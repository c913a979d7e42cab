"""Fixtures for the whole suite."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Test files import the shared helpers (shapes, tolerances, numeric) by their plain names.
sys.path.insert(0, str(Path(__file__).parent))

ROOT = Path(__file__).parents[1]
OF_ARCHITECTURE = (
    ("scalar", "neon") if platform.machine().lower() in ("aarch64", "arm64") else ("scalar", "avx2", "avx512")
)
ISAS = (os.environ["FASTRNN_ISA"],) if os.environ.get("FASTRNN_ISA") else OF_ARCHITECTURE


def pytest_configure() -> None:
    """Refuse modules in the checkout that were compiled before their sources changed."""
    suffix = EXTENSION_SUFFIXES[0]  # of this interpreter
    pairs = [
        (compiled, compiled.with_name(compiled.name.removesuffix(suffix) + kind))
        for compiled in ROOT.glob(f"fastrnn/**/*{suffix}")
        for kind in (".py", ".pyx")
    ]
    old = [source for compiled, source in pairs if source.exists() and _changed(source) > _changed(compiled)]
    if old:
        names = ", ".join(sorted(str(source.relative_to(ROOT)) for source in old))
        raise pytest.UsageError(f"changed since they were compiled: {names}; pip install -e . compiles them")


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Return a generator seeded by the name of the test: the same data each time, other data in each test."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> type[Any]:
    """Run the test in both dtypes."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test on every ISA that was built and that this CPU has; all of its kind unless FASTRNN_ISA names one."""
    from fastrnn import ops

    before = ops.get_isa()
    try:
        ops.set_isa(request.param)
    except ValueError as error:
        if "was not built" in str(error):
            pytest.skip(f"{request.param}: not built")
        if "this CPU lacks" in str(error):
            pytest.skip(f"{request.param}: not on this CPU")
        raise
    yield request.param
    ops.set_isa(before)


@pytest.fixture(params=[1, 2, 3], ids=lambda count: f"threads{count}")
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Run the test with one, two and three threads."""
    from fastrnn import ops

    before = ops.get_num_threads()
    ops.set_num_threads(request.param)
    yield request.param
    ops.set_num_threads(before)


@pytest.fixture
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs Python in a process of its own: ``run_python("-c", code, FASTRNN_ISA="scalar")``.

    Keyword arguments are environment variables. It must end within a minute.
    """

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        env = os.environ | environment
        return subprocess.run(
            [sys.executable, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False
        )

    return run
