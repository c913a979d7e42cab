"""Takes cases through the correctness gate and the measurement."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import fastrnn as fr
from bench.case import OURS, Case, Contender
from bench.gate import GRADIENT_TOLERANCE, largest_error, wrong_results
from bench.measure import GAP, LEAST_SAMPLE, measure
from bench.peers import Peer
from bench.report import Result
from bench.roofs import Roofs

__all__ = ["Settings", "run_cases"]


@dataclass(frozen=True)
class Settings:
    """How to measure."""

    threads: Sequence[int]
    rounds: int
    least: float = LEAST_SAMPLE
    gap: float = GAP
    goals: bool = True  # hold the results against the goals


def run_cases(cases: Iterable[Case], peers: Sequence[Peer], settings: Settings, roofs: Roofs) -> Iterator[Result]:
    """Yield the result of each case for each number of threads; tell of each on standard error."""
    for case in cases:
        for threads in settings.threads:
            with ExitStack() as stack:
                stack.enter_context(_our_threads(threads))
                for peer in peers:
                    stack.enter_context(peer.threads(threads))
                result = _run_case(case, threads, peers, settings, roofs)
            print(_progress(result), file=sys.stderr, flush=True)
            yield result


@contextmanager
def _our_threads(threads: int) -> Iterator[None]:
    before = fr.get_num_threads()
    fr.set_num_threads(threads)
    try:
        yield
    finally:
        fr.set_num_threads(before)


def _run_case(case: Case, threads: int, peers: Sequence[Peer], settings: Settings, roofs: Roofs) -> Result:
    try:
        contenders = list(case.contenders([peer.name for peer in peers], threads))
        problem, errors = _gate(case, contenders)
    except Exception as error:  # noqa: BLE001 - whatever a library raises makes its case an error, and the others go on
        return Result(case.name, threads, case.flops, problem=f"{type(error).__name__}: {error}")
    if problem:
        return Result(case.name, threads, case.flops, errors=errors, problem=problem)
    calls = {contender.name: contender.call for contender in contenders}
    gap = settings.gap if threads > 1 else 0.0
    timings = measure(calls, settings.rounds, least=settings.least, gap=gap)
    return Result(
        case.name,
        threads,
        case.flops,
        roof_seconds=case.roof_seconds(roofs, threads),
        goal=case.goal(threads) if settings.goals else None,
        timings=timings,
        errors=errors,
    )


def _gate(case: Case, contenders: Sequence[Contender]) -> tuple[str, dict[str, float]]:
    """Return what is wrong with any contender's results, or "", and the largest error of each."""
    truth = case.truth()
    tolerance: float = getattr(case, "gradient_tolerance", GRADIENT_TOLERANCE)
    problems: list[str] = []
    errors: dict[str, float] = {}
    for contender in contenders:
        results = contender.results()
        errors[contender.name] = largest_error(results, truth)
        problems += [f"{contender.name}: {problem}" for problem in wrong_results(results, truth, tolerance)]
    return "; ".join(problems), errors


def _progress(result: Result) -> str:
    start = f"{result.case}, {result.threads} thread{'s' * (result.threads > 1)}: "
    if result.problem:
        return start + "ERROR " + result.problem
    text = f"{start}{1e3 * result.timings[OURS].median:.4g} ms"
    peer = result.best_peer
    return text + (f", {peer} {1e3 * result.timings[peer].median:.4g} ms, ratio {result.ratio:.2f}" if peer else "")
