"""The measurement of peak memory."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from bench import memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

BYTES = 64 << 20


def test_growth_is_that_of_the_largest_moment() -> None:
    assert BYTES - (1 << 20) <= memory.growth(lambda: np.ones(BYTES // 8).sum()) < BYTES + (16 << 20)


def test_a_library_in_a_process_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    assert memory.main(["pool", "--smoke", "--rows", "k2 s2 NHWC"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("|")[1].strip() == "case"
    assert all(float(line.split("|")[2]) >= 0 for line in lines[2:])
    assert len(lines) > 2
