"""Threads, instruction sets, and what this build is made of."""

from __future__ import annotations

from typing import Any

from fastrnn._checks import positive_int
from fastrnn._kernels import _dispatch, _threads
from fastrnn._kernels._dispatch import available_isas, get_isa, isa_generation, set_isa
from fastrnn._kernels._memory import empty
from fastrnn._kernels._threads import get_num_threads

__all__ = [
    "available_isas",
    "build_info",
    "empty",
    "get_isa",
    "get_num_threads",
    "isa_generation",
    "set_isa",
    "set_num_threads",
]

MOST_THREADS = 4096  # more is no machine's wish; larger numbers mean "all you have"


def set_num_threads(n: int) -> None:
    """Let each call use at most `n` threads. Results do not depend on it.

    A later change of the OpenMP limit to a smaller value (threadpoolctl) is respected too.

    Raises
    ------
    ArgumentError : n is not an int >= 1
    """
    _threads.set_num_threads(min(positive_int("set_num_threads", "n", n), MOST_THREADS))


def build_info() -> dict[str, Any]:
    """Return what this build is made of and what it uses now.

    Keys: version, isa (in use), available_isas, built_isas, threads, openmp, compiler, blas.
    """
    from fastrnn import __version__
    from fastrnn._kernels import _blas

    return {
        "version": __version__,
        "isa": get_isa(),
        "available_isas": available_isas(),
        "built_isas": _dispatch.built_isas(),
        "threads": get_num_threads(),
        "openmp": _threads.has_openmp(),
        "compiler": _dispatch.compiler(),
        "blas": _blas.provider(),
    }
