"""Command line: ``python -m bench SUITE``, and ``python -m bench show FILE`` for a report that was kept."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import fastrnn as fr
from bench.bench_conv import conv_cases
from bench.bench_kit import kit_cases
from bench.bench_models import model_cases
from bench.bench_pool import pool_cases
from bench.bench_rnn import recurrent_cases
from bench.case import Case
from bench.layer_times import layer_times
from bench.machine import machine_record
from bench.peers import PEERS, find_peers
from bench.plot import plot_report
from bench.report import Report
from bench.roofs import Roofs
from bench.runner import Settings, run_cases

__all__ = ["SUITES", "main"]

#: The suites: keyword arguments `smoke` and `quick` to cases.
SUITES: dict[str, Callable[..., Iterable[Case]]] = {
    "conv": conv_cases,
    "kit": kit_cases,
    "models": model_cases,
    "pool": pool_cases,
    "rnn": recurrent_cases,
}

ROUNDS = 9
QUICK_ROUNDS = 3
SMOKE_LEAST_SAMPLE = 1e-4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, or 1 if a case has an error."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.plot and find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib")
    report = _show(parser, options) if options.suite == "show" else _run(parser, options)
    print(report.text())
    if getattr(options, "layers", False):
        print(_layers(options))
    if options.plot:
        plot_report(report, options.plot)
    return int(report.failed)


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Report:
    all_cases = SUITES[options.suite](smoke=options.smoke, quick=options.quick)
    cases = [case for case in all_cases if options.rows.lower() in case.name.lower()]
    if not cases:
        parser.error(f"no row of {options.suite} contains {options.rows!r}")
    peers, missing = find_peers(options.peers)
    for name, reason in missing.items():
        print(f"{name}: left out, since it cannot be imported ({reason})", file=sys.stderr)
    settings, roofs = _settings(options)
    report = Report(
        options.suite,
        machine_record({peer.name: peer.version for peer in peers}),
        {**asdict(settings), "peers": [peer.name for peer in peers]},
        {} if options.smoke else {"multiply-add": roofs.flops, **roofs.levels()},
        list(run_cases(cases, peers, settings, roofs)),
    )
    if options.json:
        report.save(options.json)
    return report


def _layers(options: argparse.Namespace) -> str:
    """Return where our time goes in each model that was chosen, for each number of threads."""
    cases = [case for case in model_cases(smoke=options.smoke, quick=options.quick) if case.mode == "train"]
    lines, before = [], fr.get_num_threads()
    for threads in options.threads:
        fr.set_num_threads(threads)
        for case in cases:
            if options.rows.lower() in case.name.lower():
                lines += [f"\n{case.problem.row.name}, {threads} thread{'s' * (threads > 1)}: where our time goes\n"]
                lines += [layer_times(case.problem, options.rounds or ROUNDS)]
    fr.set_num_threads(before)
    return "\n".join(lines)


def _settings(options: argparse.Namespace) -> tuple[Settings, Roofs]:
    if options.smoke:
        settings = Settings(options.threads, options.rounds or 1, SMOKE_LEAST_SAMPLE, gap=0.0, goals=False)
        return settings, Roofs(SMOKE_LEAST_SAMPLE, rounds=1)
    return Settings(options.threads, options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)), Roofs()


def _show(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Report:
    try:
        return Report.from_json(options.file.read_text())
    except (OSError, ValueError) as error:
        parser.error(f"{options.file}: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    suites = parser.add_subparsers(dest="suite", required=True)
    for name in SUITES:
        suite = suites.add_parser(name, help=f"measure the suite {name}")
        suite.add_argument("--quick", action="store_true", help="the main rows only, and fewer rounds")
        suite.add_argument("--smoke", action="store_true", help="tiny sizes, one round: does everything work?")
        suite.add_argument("--rows", default="", metavar="TEXT", help="only rows whose name contains TEXT")
        suite.add_argument("--threads", type=_counts, default=[1, 2], metavar="N,N", help="thread counts (1,2)")
        suite.add_argument("--peers", type=_peers, default=tuple(PEERS), metavar="NAMES", help=f"of {','.join(PEERS)}")
        suite.add_argument("--rounds", type=_count, metavar="N", help="samples of each library")
        suite.add_argument("--json", type=Path, metavar="FILE", help="keep the report")
        suite.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios")
    suites.choices["models"].add_argument("--layers", action="store_true", help="say where our time goes, by layer")
    show = suites.add_parser("show", help="print a report that was kept")
    show.add_argument("file", type=Path)
    show.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios")
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _counts(text: str) -> list[int]:
    return [_count(part) for part in text.split(",")]


def _peers(text: str) -> tuple[str, ...]:
    names = tuple(filter(None, text.split(",")))
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown {', '.join(unknown)}; known are {', '.join(PEERS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
