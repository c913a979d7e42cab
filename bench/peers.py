"""The other libraries: whether they are here, which version, how many threads they use, how they run an ONNX model."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

from numpy.typing import NDArray

from bench.case import Arrays

__all__ = ["PEERS", "RUNNERS", "Peer", "Run", "find_peers"]

#: Runs a model: arrays by input name to the arrays of all outputs, which belong to the caller.
Run: TypeAlias = Callable[[Arrays], Sequence[NDArray[Any]]]
Threads: TypeAlias = Callable[[int], AbstractContextManager[None]]


@dataclass(frozen=True)
class Peer:
    """A library to compare with. ``with threads(n):`` limits it to n threads, if that is a setting of its process."""

    name: str
    version: str
    threads: Threads


def _torch() -> Peer:
    torch: Any = importlib.import_module("torch")

    @contextmanager
    def threads(count: int) -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    return Peer("torch", str(torch.__version__), threads)


def _onnxruntime() -> Peer:
    importlib.import_module("onnx")  # it builds the models
    onnxruntime: Any = importlib.import_module("onnxruntime")
    return Peer("onnxruntime", str(onnxruntime.__version__), _set_by_session)


def _openvino() -> Peer:
    importlib.import_module("onnx")
    openvino: Any = importlib.import_module("openvino")
    return Peer("openvino", str(openvino.__version__).split("-")[0], _set_by_session)


def _set_by_session(count: int) -> AbstractContextManager[None]:
    del count
    return nullcontext()


#: How each library that is compared with is found; ImportError says that it is not installed.
PEERS: dict[str, Callable[[], Peer]] = {"torch": _torch, "onnxruntime": _onnxruntime, "openvino": _openvino}


def find_peers(names: Iterable[str]) -> tuple[list[Peer], dict[str, str]]:
    """Return the peers that are installed, and for the others why they are not there."""
    found: list[Peer] = []
    missing: dict[str, str] = {}
    for name in names:
        try:
            found.append(PEERS[name]())
        except ImportError as error:
            missing[name] = str(error)
    return found, missing


def _onnxruntime_run(model: bytes, threads: int) -> Run:
    """Open a session of ONNX Runtime on its CPU provider."""
    onnxruntime: Any = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(feeds: Arrays) -> Sequence[NDArray[Any]]:
        outputs: Sequence[NDArray[Any]] = session.run(None, feeds)
        return outputs

    return run


def _openvino_run(model: bytes, threads: int) -> Run:
    """Compile the model with OpenVINO, in float32 and for latency, as the others compute."""
    openvino: Any = importlib.import_module("openvino")
    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(core.read_model(model), "CPU", settings)
    count = len(compiled.outputs)

    def run(feeds: Arrays) -> Sequence[NDArray[Any]]:
        outputs = compiled(feeds, share_inputs=True)
        return [outputs[index] for index in range(count)]

    return run


#: What runs ONNX models: (model, threads) -> Run.
RUNNERS: dict[str, Callable[[bytes, int], Run]] = {"onnxruntime": _onnxruntime_run, "openvino": _openvino_run}
