"""The kernels alone, without Python: under the address and undefined-behaviour sanitizers, and for AArch64 under an emulator."""

from __future__ import annotations

import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "src_c"
CHECK = Path(__file__).with_name("check_kernels.c")
COMMON = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-fno-math-errno", f"-I{SOURCES}"]
SANITIZE = ["-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
ISA_FLAGS = {
    "scalar": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"],
    "neon": [],
}

pytestmark = pytest.mark.skipif(not SOURCES.is_dir(), reason="the C sources are not beside the tests")


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def build(folder: Path, compiler: str, isas: list[str], sanitized: bool, link: list[str]) -> Path:
    """Compile the check with the kernels of `isas`; the sanitizers watch float32, whose bodies are float64's."""
    built = [f"-DFR_BUILT_{isa}=1" for isa in isas]
    jobs = [(isa, dtype) for isa in isas for dtype in ("f32", "f64")]

    def compile_one(job: tuple[str, str]) -> str:
        isa, dtype = job
        target = folder / f"{isa}_{dtype}.o"
        mode = SANITIZE if sanitized and dtype == "f32" else ["-O1"]
        source = SOURCES / "isa" / f"{isa}_{dtype}.c"
        subprocess.run([compiler, *COMMON, *mode, *ISA_FLAGS[isa], "-c", source, "-o", target], check=True)
        return str(target)

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_one, jobs))
    program = folder / "check_kernels"
    mode = SANITIZE if sanitized else ["-O1"]
    rest = [CHECK, SOURCES / "fr_cpu.c", SOURCES / "fr_dispatch.c", *objects]
    subprocess.run([compiler, *COMMON, *mode, *built, *rest, "-o", program, *link, "-lm"], check=True)
    return program


def run(command: list[str | Path], isas: list[str]) -> None:
    """Run the check and assert that every table it can run is right."""
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert {line.split()[0] for line in result.stdout.splitlines() if line.endswith(": ok")} <= set(isas)
    assert "scalar f32: ok" in result.stdout
    assert "scalar f64: ok" in result.stdout


def test_sanitized(tmp_path: Path) -> None:
    isas = ["scalar", "avx2", "avx512"] if platform.machine() == "x86_64" else ["scalar"]
    run([build(tmp_path, tool("gcc"), isas, True, [])], isas)


def test_aarch64_emulated(tmp_path: Path) -> None:
    emulator, isas = tool("qemu-aarch64"), ["scalar", "neon"]
    program = build(tmp_path, tool("aarch64-linux-gnu-gcc"), isas, False, ["-static"])
    run([emulator, program], isas)
    listed = subprocess.run([emulator, program], capture_output=True, text=True, check=True).stdout
    assert "neon f32: ok" in listed
    assert "neon f64: ok" in listed
