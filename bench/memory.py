"""Peak memory of a training step: ``python -m bench.memory``, each library in a process of its own. Linux.

A process runs tiny layers, which loads the library's code, then makes the layer and its arrays, and takes three steps. What counts
is by how much the resident memory was at most larger than before the first: workspace, packed weights, what the pullback keeps, and
results.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import fastrnn as fr
from bench.bench_conv import conv_cases
from bench.bench_models import model_cases
from bench.bench_pool import pool_cases
from bench.bench_rnn import recurrent_cases
from bench.case import OURS, Case, Contender
from bench.peers import PEERS
from bench.report import format_table

__all__ = ["SUITES", "growth", "main"]

#: The suites whose cases train.
SUITES: dict[str, Callable[..., Iterable[Case]]] = {
    "conv": conv_cases,
    "models": model_cases,
    "pool": pool_cases,
    "rnn": recurrent_cases,
}
PEER = "torch"  # the one that trains
STEPS = 3
MEGABYTE = 1e6


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table of a suite, or in a child process the growth of one contender; return 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--rows", default="", metavar="TEXT", help="only rows whose name contains TEXT")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    cases = [case for case in SUITES[options.suite](smoke=options.smoke) if case.name.endswith(" train")]
    if options.contender is not None:
        case = next(case for case in cases if case.name == options.rows)
        tiny = [case for case in SUITES[options.suite](smoke=True) if case.name.endswith(" train")]
        print(*_growth_of(case, tiny, options.contender, options.threads))
        return 0
    wanted = [case.name for case in cases if options.rows.lower() in case.name.lower()]
    rows = [_row(options, case) for case in wanted]
    print(format_table(["case", "ours MB", f"{PEER} MB", "ratio"], rows))
    return 0


def _row(options: argparse.Namespace, case: str) -> list[str]:
    """Return a line of the table: the peer's best way counts."""
    ours = _child(options, case, OURS)[0]
    theirs = min(_child(options, case, PEER))
    print(f"{case}: {ours / MEGABYTE:.1f} MB, {PEER} {theirs / MEGABYTE:.1f} MB", file=sys.stderr, flush=True)
    return [case, f"{ours / MEGABYTE:.1f}", f"{theirs / MEGABYTE:.1f}", f"{theirs / max(ours, 1):.2f}"]


def _child(options: argparse.Namespace, case: str, library: str) -> list[int]:
    """Return the growth in bytes of each way of a library, each in its own process."""
    command = [sys.executable, "-m", "bench.memory", options.suite, "--rows", case, "--threads", str(options.threads)]
    command += ["--smoke"] * options.smoke
    found: list[int] = []
    while True:
        run = subprocess.run(
            [*command, "--contender", f"{library}:{len(found)}"], check=False, capture_output=True, text=True
        )
        if run.returncode != 0:
            said = run.stderr.strip().splitlines() or [f"exit code {run.returncode}"]
            raise RuntimeError(f"{case}, {library}: {said[-1]}")
        grown, ways = map(int, run.stdout.split())
        found.append(grown)
        if len(found) == ways:
            return found


def _growth_of(case: Case, tiny: Iterable[Case], which: str, threads: int) -> tuple[int, int]:
    """Return the growth of the contender `library:number` of a case, and how many the library has."""
    library, number = which.split(":")
    with ExitStack() as stack:
        fr.set_num_threads(threads)
        if library != OURS:
            stack.enter_context(PEERS[library]().threads(threads))
        for small in tiny:
            for way in _ways(small, library, threads):
                way.call()
        ways = _ways(case, library, threads)
        return growth(ways[int(number)].call), len(ways)


def _ways(case: Case, library: str, threads: int) -> list[Contender]:
    libraries = [] if library == OURS else [library]
    return [way for way in case.contenders(libraries, threads) if way.library == library]


def growth(call: Callable[[], object]) -> int:
    """Return by how many bytes the resident memory is at most larger during some calls than before."""
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    for _ in range(STEPS):
        call()
    return max(0, _status("VmHWM") - before)


def _status(key: str) -> int:
    """Return a size in bytes that the kernel tells of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) << 10
    raise RuntimeError(f"the kernel does not tell {key}")


if __name__ == "__main__":
    sys.exit(main())
