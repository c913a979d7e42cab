"""No kernel touches memory outside the arrays that it was given."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

GUARDED = Path(__file__).with_name("guarded.py")
# Reads one byte of an array of 400, or beside it.
READING = """
import sys
sys.path.insert(0, {folder!r})
import ctypes
from guarded import Guard
array = Guard(at_end={at_end}).empty((100,), "f4")
ctypes.c_char.from_address(array.ctypes.data + {offset}).value
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect")


def test_nothing_outside_is_touched(isa: str, run_python: Callable[..., Any]) -> None:
    done = run_python(str(GUARDED), isa, OMP_WAIT_POLICY="passive")  # or idle members delay the many system calls
    assert done.returncode == 0, f"{done.stdout[-300:]}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize(
    ("at_end", "offset", "allowed"), [(True, 399, True), (True, 400, False), (False, 0, True), (False, -1, False)]
)
def test_the_guard_bites(at_end: bool, offset: int, allowed: bool, run_python: Callable[..., Any]) -> None:
    done = run_python("-c", READING.format(folder=str(GUARDED.parent), at_end=at_end, offset=offset))
    assert (done.returncode == 0) == allowed, done.stderr
