"""Instruction sets: which there are, choosing one, and what the build says of itself."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from fastrnn import ops
from fastrnn._kernels import _dispatch

NAMES = ("scalar", "neon", "avx2", "avx512")
FOREIGN = "avx2" if platform.machine().lower() in {"aarch64", "arm64"} else "neon"
WIDTHS = {"scalar": (4, 2), "neon": (4, 2), "avx2": (8, 4), "avx512": (16, 8)}


@pytest.fixture(autouse=True)
def same_isa_afterwards() -> Iterator[None]:
    before = ops.get_isa()
    yield
    ops.set_isa(before)


def test_available_isas() -> None:
    available, built = ops.available_isas(), _dispatch.built_isas()
    assert available[0] == built[0] == "scalar"
    assert set(available) <= set(built) <= set(NAMES)
    assert ops.get_isa() in available
    assert FOREIGN not in built


def test_set_isa(isa: str) -> None:
    assert ops.get_isa() == isa
    assert ops.build_info()["isa"] == isa
    assert (_dispatch.vector_width(4), _dispatch.vector_width(8)) == WIDTHS[isa]


def test_generation_changes_with_each_choice() -> None:
    seen = {ops.isa_generation()}
    for name in ops.available_isas() * 2:
        ops.set_isa(name)
        assert ops.isa_generation() not in seen
        seen.add(ops.isa_generation())


@pytest.mark.parametrize("name", ["sse2", "", "AVX2", "avx2 ", "avx-512", None, 3, b"avx2", ["scalar"]], ids=repr)
def test_unknown_names_are_refused(name: Any) -> None:
    before = ops.get_isa(), ops.isa_generation()
    with pytest.raises(ValueError, match="set_isa: 'name' must be one of scalar, neon, avx2, avx512, got ") as caught:
        ops.set_isa(name)
    assert str(caught.value).endswith(repr(name))
    assert (ops.get_isa(), ops.isa_generation()) == before


def test_names_of_other_machines_are_refused() -> None:
    before = ops.get_isa(), ops.isa_generation()
    for name in NAMES:
        if name in ops.available_isas():
            continue
        reason = f"this CPU lacks '{name}'" if name in _dispatch.built_isas() else f"'{name}' was not built"
        with pytest.raises(ValueError, match=f"^set_isa: {reason}"):
            ops.set_isa(name)
    assert (ops.get_isa(), ops.isa_generation()) == before


def test_build_info() -> None:
    info = ops.build_info()
    keys = {"version", "isa", "available_isas", "built_isas", "threads", "openmp", "compiler", "blas"}
    assert keys <= set(info)
    assert info["available_isas"] == ops.available_isas()
    assert info["threads"] == ops.get_num_threads() >= 1
    assert isinstance(info["openmp"], bool)
    assert all(isinstance(info[key], str) and info[key] for key in ("version", "compiler", "blas"))
    assert info["compiler"] != "unknown"


def test_the_environment_chooses(isa: str, run_python: Callable[..., Any]) -> None:
    done = run_python("-c", "from fastrnn import ops; print(ops.get_isa())", FASTRNN_ISA=isa)
    assert (done.returncode, done.stdout) == (0, f"{isa}\n"), done.stderr


def test_without_a_wish_the_fastest_is_chosen(run_python: Callable[..., Any]) -> None:
    done = run_python("-c", "from fastrnn import ops; print(ops.get_isa())", FASTRNN_ISA="")
    assert done.stdout.strip() == max(ops.available_isas(), key=NAMES.index), done.stderr


@pytest.mark.parametrize("name", ["sse2", FOREIGN])
def test_a_bad_name_in_the_environment(name: str, run_python: Callable[..., Any]) -> None:
    done = run_python("-c", "import fastrnn", FASTRNN_ISA=name)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith(("ValueError: ", "ImportError: "))
    assert f"'{name}'" in last
    assert "scalar" in last  # what there is


def test_self_check(run_python: Callable[..., Any]) -> None:
    done = run_python("-m", "fastrnn", FASTRNN_ISA="")
    assert done.returncode == 0, done.stderr
    for isa in ops.available_isas():
        for cell in ("rnn", "lstm", "gru"):
            assert any(
                line.startswith("check") and {isa, cell, "ok"} <= set(line.split()) for line in done.stdout.splitlines()
            )
    assert "FAILED" not in done.stdout
    assert "compiler" in done.stdout


LEAN = """
import sys
import fastrnn
lstm = fastrnn.LSTM(3, 4, rng=0)
import numpy as np
(y, _), backward = lstm.forward(np.ones((2, 1, 3), np.float32))
backward(y)
heavy = [name for name in ("scipy", "scipy.linalg", "torch", "safetensors", "matplotlib", "multiprocessing") if name in sys.modules]
print(heavy)
"""


def test_import_and_use_need_numpy_alone(run_python: Callable[..., Any]) -> None:
    best = max(ops.available_isas(), key=NAMES.index)
    if best == "scalar":
        pytest.skip("the portable kernels take BLAS, and with it scipy.linalg, on first use")
    done = run_python("-c", LEAN, FASTRNN_ISA=best)
    assert done.stdout == "[]\n", done.stderr


def test_blas_is_loaded_on_first_use_only(run_python: Callable[..., Any]) -> None:
    code = (
        "import sys, numpy as np; from fastrnn import ops; assert 'scipy' not in sys.modules; x = np.ones((2, 2));"
        "y, back = ops.linear_vjp(x, x); assert 'scipy' not in sys.modules; back(x); assert 'scipy.linalg' in sys.modules"
    )
    done = run_python("-c", code, FASTRNN_ISA="scalar")
    assert done.returncode == 0, done.stderr


def test_isas_differ_only_by_rounding(rng: np.random.Generator) -> None:
    x, weight = rng.standard_normal((9, 40)).astype(np.float32), rng.standard_normal((33, 40)).astype(np.float32)
    results = []
    for name in ops.available_isas():
        ops.set_isa(name)
        results.append(ops.linear_forward(x, weight))
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], rtol=1e-5, atol=2e-5)
