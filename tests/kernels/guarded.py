"""Run every operation on arrays that end, or begin, right at a page that may not be touched: ``python guarded.py avx2``.

Any access outside an array ends the process with a segmentation fault; the last line printed says what ran. Results go into such
arrays too, and must have the same bits as in ordinary ones.
"""

from __future__ import annotations

import ctypes
import faulthandler
import math
import mmap
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from conv_problem import ConvProblem
from numeric import Array, RecurrentProblem
from shapes import (
    ADAPTIVE_POOLS,
    CONV,
    CONV_TRANSPOSE,
    DILATED_POOLS,
    POOLS,
    TIME_POOLS,
    VARIANTS,
    RecurrentSizes,
)
from tolerances import assert_same_bits

from fastrnn import ops
from fastrnn._kernels._phases import join_phases, split_phases
from fastrnn.ops._winograd import WinogradWeights

PAGE = mmap.PAGESIZE
NO_ACCESS = 0
TAILS = (1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65)
# Units and features around the vectors' widths and the panels'; the last is large enough for a team.
SIZES = (
    *(RecurrentSizes(3, N, C, H) for N, C, H in ((1, 1, 1), (2, 5, 3), (3, 9, 17), (7, 17, 33), (1, 33, 65))),
    RecurrentSizes(3, 16, 20, 130),
)
MODULES = (
    "fastrnn.ops._pooling",
    "fastrnn.ops._recurrent",
    "fastrnn.ops.activation",
    "fastrnn.ops.attention",
    "fastrnn.ops.conv",
    "fastrnn.ops.conv_transpose",
    "fastrnn.ops.dropout",
    "fastrnn.ops.embedding",
    "fastrnn.ops.linear",
    "fastrnn.ops.losses",
    "fastrnn.ops.softmax",
    "fastrnn.ops.time_pool",
)


class Guard:
    """Makes arrays between two pages without access, flush with the second or with the first."""

    def __init__(self, at_end: bool) -> None:
        self.at_end = at_end
        self.protect = ctypes.CDLL(None, use_errno=True).mprotect
        self.protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        dtype = np.dtype(dtype)
        count = int(np.prod(shape))
        if count == 0:
            return np.empty(shape, dtype)
        inside = -(-count * dtype.itemsize // PAGE) * PAGE
        memory = mmap.mmap(-1, inside + 2 * PAGE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for page in (address, address + PAGE + inside):
            if self.protect(page, PAGE, NO_ACCESS) != 0:
                raise OSError(ctypes.get_errno(), "mprotect")
        offset = PAGE + (inside - count * dtype.itemsize if self.at_end else 0)
        return np.frombuffer(memory, dtype, count, offset).reshape(shape)

    def copy(self, value: Any) -> Any:
        """Return a guarded copy of an array, or of the arrays in a tuple or dict."""
        if isinstance(value, dict):
            return {name: self.copy(array) for name, array in value.items()}
        if isinstance(value, tuple):
            return tuple(self.copy(array) for array in value)
        array = self.empty(value.shape, value.dtype)
        array[...] = value
        return array

    @contextmanager
    def results_too(self) -> Iterator[None]:
        """Let the operations allocate their results here."""
        patches = [patch(f"{module}.empty", self.empty) for module in MODULES]
        for one in patches:
            one.start()
        try:
            yield
        finally:
            for one in patches:
                one.stop()


def check_recurrent(guard: Guard, dtype: Any, rng: np.random.Generator) -> None:
    for variant in VARIANTS:
        for sizes in SIZES:
            for lengths in (False, True):
                print(variant, sizes, "lengths" if lengths else "even", flush=True)
                problem = RecurrentProblem.random(rng, variant, sizes, dtype=dtype, lengths=lengths, reverse=lengths)
                wanted = problem.results(ops)
                fields = {name: guard.copy(getattr(problem, name)) for name in ("x", "params", "state", "dy", "dstate")}
                guarded = RecurrentProblem(variant, **fields, options=problem.options)
                with guard.results_too():
                    assert_same_bits(guarded.forward(ops), (wanted["y"], wanted["state"]))
                    out = guard.empty(wanted["y"].shape, dtype)
                    guarded.forward(ops, out=out)
                    assert_same_bits(out, wanted["y"])
                    grads = guard.copy({name: np.zeros_like(value) for name, value in problem.params.items()})
                    assert_same_bits(guarded.results(ops, grads=grads), wanted)
                    check_stream(guarded)


def check_stream(guarded: RecurrentProblem) -> None:
    variant, (T, N, _) = guarded.variant, guarded.x.shape
    stream = getattr(ops, f"{variant.cell}_stream")([guarded.params], N, **variant.options)
    y, _ = getattr(ops, f"{variant.cell}_forward")(guarded.x, guarded.params, **variant.options)
    for t in range(T):
        assert_same_bits(stream.step(guarded.x[t]), y[t])


def check_linear(guard: Guard, dtype: Any, rng: np.random.Generator) -> None:
    for M, K, C in (
        [(1, n, 3) for n in TAILS] + [(4, 5, n) for n in TAILS] + [(n, n, n) for n in TAILS] + [(300, 70, 60)]
    ):
        print("linear", M, K, C, flush=True)
        shapes = {"x": (M, C), "weight": (K, C), "bias": (K,), "dy": (M, K)}
        arrays = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
        zeros = {name: np.zeros_like(arrays[name]) for name in ("weight", "bias")}

        def results(given: dict[str, Array], grads: dict[str, Array]) -> list[Any]:
            y, pullback = ops.linear_vjp(given["x"], given["weight"], given["bias"])
            return [y, *pullback(given["dy"], grads=grads)]

        with guard.results_too():
            got = results(guard.copy(arrays), guard.copy(zeros))
        assert_same_bits(got, results(arrays, zeros))


def check_conv(guard: Guard, dtype: Any, rng: np.random.Generator) -> None:
    for kind, table in (("conv", CONV), ("conv_transpose", CONV_TRANSPOSE)):
        for sizes in table:
            for last in (False, True):
                print(kind, sizes, "last" if last else "first", flush=True)
                params = ("bias", "gain") if kind == "conv" else ("bias",)
                problem = ConvProblem.random(rng, sizes, dtype, kind=kind, last=last, params=params, activation="relu")
                zeros = {name: np.zeros_like(value) for name, value in problem.params.items()}
                fields = {name: guard.copy(getattr(problem, name)) for name in ("x", "params", "dy")}
                with guard.results_too():
                    got = replace(problem, **fields).results(ops, grads=guard.copy(zeros))
                assert_same_bits(got, problem.results(ops, grads=zeros))


def check_winograd(guard: Guard, dtype: Any, rng: np.random.Generator) -> None:
    for n in (1, 3, 7, 8, 9, 16, 17, 33):
        for kernel in ((3, 3), (5, 4), (3,), (9,)):
            for channels_last in (False, True):
                print("winograd", n, kernel, channels_last, flush=True)
                spatial = (n, 11) if len(kernel) == 2 else (n + 9,)
                out = tuple(size + 4 - k + 1 for size, k in zip(spatial, kernel, strict=True))
                x = rng.standard_normal((2, *spatial, n) if channels_last else (2, n, *spatial)).astype(dtype)
                dy = rng.standard_normal((2, *out, 5) if channels_last else (2, 5, *out)).astype(dtype)
                weight, bias = rng.standard_normal((5, n, *kernel)).astype(dtype), np.ones(5, dtype)
                given = (x, dy, weight, bias, np.zeros_like(dy), np.zeros_like(x), np.zeros_like(weight))
                fenced = guard.copy(given)
                for x, dy, weight, bias, y, dx, grad in (given, fenced):
                    weights = WinogradWeights(weight, ((2, 2),) * len(kernel), backward=True)
                    weights.run(x, y, bias, 1, channels_last)
                    weights.run_backward(dy, dx, channels_last)
                    weights.add_weight_gradient(x, dy, grad, channels_last)
                assert_same_bits(fenced, given)


def check_phases(guard: Guard, dtype: Any, rng: np.random.Generator) -> None:
    for n in (1, 3, 8, 16, 17, 33):
        for step in ((1, 2), (2, 3), (4, 1)):
            for channels_last in (False, True):
                print("phases", n, step, channels_last, flush=True)
                counts, channels = (n // step[0] + 2, n // step[1] + 3), math.prod(step) * 3
                x = rng.standard_normal((2, n, n, 3) if channels_last else (2, 3, n, n)).astype(dtype)
                phases = np.zeros((2, *counts, channels) if channels_last else (2, channels, *counts), dtype)
                given = (x, phases, np.zeros_like(x))
                fenced = guard.copy(given)
                for maps, split, joined in (given, fenced):
                    split_phases(maps, split, step, (2, 1), channels_last)
                    join_phases(split, joined, step, (2, 1), channels_last)
                assert_same_bits(fenced, given)


def check_the_rest(guard: Guard, dtype: Any, rng: np.random.Generator) -> None:
    for n in (*TAILS, 9001):  # the last for a team
        print("flat", n, flush=True)
        x = rng.standard_normal((5, n)).astype(dtype)
        targets, tokens = rng.integers(0, n, 5), rng.integers(0, 5, 4)
        table_grad = np.zeros_like(x)
        guarded = guard.copy({"x": x, "targets": targets, "tokens": tokens, "grad": table_grad})
        with guard.results_too():
            got = [getattr(ops, name)(guarded["x"]) for name in ("exp", "sigmoid", "tanh")]
            got += ops.cross_entropy(guarded["x"], guarded["targets"])
            rows, pullback = ops.embedding_vjp(guarded["tokens"], guarded["x"])
            got += [rows, pullback(guard.copy(rows), grads={"weight": guarded["grad"]})["weight"]]
        wanted = [getattr(ops, name)(x) for name in ("exp", "sigmoid", "tanh")] + [*ops.cross_entropy(x, targets)]
        rows, pullback = ops.embedding_vjp(tokens, x)
        assert_same_bits(got, [*wanted, rows, pullback(rows)["weight"]])
        plain = [x[index].copy() for index in range(3)] + [np.abs(x[3]), np.abs(x[4])]
        fenced = [guard.copy(array) for array in plain]
        for param, grad, buf, m, v in (plain, fenced):
            ops.sgd_step(param, grad, buf, lr=0.1, momentum=0.9, nesterov=True)
            ops.adam_step(param, grad, m, v, step=1, lr=0.1, beta1=0.9, beta2=0.99, eps=1e-8)
            ops.adam_step(param, grad, m, v, np.abs(buf), step=1, lr=0.1, beta1=0.9, beta2=0.99, eps=1e-8)
            ops.rmsprop_step(param, grad, v, m, buf, lr=0.1, alpha=0.9, eps=1e-8, momentum=0.9)
            ops.adagrad_step(param, grad, v, lr=0.1, eps=1e-8)
            ops.adadelta_step(param, grad, v, v.copy(), lr=0.1, rho=0.9, eps=1e-8)
            ops.scale_values(m, ops.sum_of_squares(grad))
            ops.clip_values(m, 0.5)
        assert_same_bits(fenced, plain)
        check_bags_and_ctc(guard, x)


def check_bags_and_ctc(guard: Guard, table: Array) -> None:
    """Bags of the rows of a table, its elements as logits of one class each step, and weights of classes."""
    tokens, dy = np.array([[4, 1, 4], [0, 4, 4]]), table[:2].copy()
    targets, weight = np.array([0, len(table[0]) - 1, 0, 0, 0]), np.abs(table[0])
    for mode in ("sum", "mean", "max"):
        results = []
        for give in (lambda array: array.copy(), guard.copy):
            y, pullback = ops.embedding_bag_vjp(give(tokens), give(table), mode=mode)
            grad = give(np.zeros_like(table))
            pullback(give(dy), grads={"weight": grad})
            results.append([y, grad])
        assert_same_bits(*results)
    assert_same_bits(
        ops.cross_entropy(guard.copy(table), guard.copy(targets), weight=guard.copy(weight), label_smoothing=0.1),
        ops.cross_entropy(table, targets, weight=weight, label_smoothing=0.1),
    )
    if len(table[0]) > 2:
        labels = np.array([1, 2])
        assert_same_bits(ops.ctc_loss(guard.copy(table), guard.copy(labels)), ops.ctc_loss(table, labels))


def check_elementwise(guard: Guard, dtype: Any, rng: np.random.Generator) -> None:
    for n in (*TAILS, 9001):
        print("elementwise", n, flush=True)
        x, dy = rng.standard_normal((2, 3, n)).astype(dtype)
        calls = [("activation", {"kind": kind}) for kind in ops.ACTIVATIONS]
        calls += [("softmax", {}), ("log_softmax", {}), ("dropout", {"p": 0.5, "rng": 1})]
        for operation, options in calls:
            y, pullback = getattr(ops, f"{operation}_vjp")(x, **options)
            wanted = [y, pullback(dy)]
            with guard.results_too():
                y, pullback = getattr(ops, f"{operation}_vjp")(guard.copy(x), **options)
                assert_same_bits([y, pullback(guard.copy(dy))], wanted)
                if operation != "dropout":
                    assert_same_bits(getattr(ops, f"{operation}_forward")(guard.copy(x), **options), y)
    for n, score in ((n, score) for n in TAILS for score in ("dot", "general", "additive")):
        print("attention", n, score, flush=True)
        given = {"query": (2, 3, n), "memory": (n, 3, n)}
        matrices = {"dot": (), "general": ("weight",), "additive": ("weight_query", "weight_memory")}[score]
        arrays = {key: rng.standard_normal(shape).astype(dtype) for key, shape in given.items()}
        params = {key: rng.standard_normal((n, n)).astype(dtype) for key in matrices}
        if score == "additive":
            params["weight_score"] = rng.standard_normal(n).astype(dtype)
        lengths = np.array([n, 1, (n + 1) // 2])
        wanted, pullback = ops.attention_vjp(**arrays, params=params, score=score, lengths=lengths)
        gradients = pullback(*wanted)
        with guard.results_too():
            fenced = guard.copy({**arrays, "params": params})
            got, pullback = ops.attention_vjp(**fenced, score=score, lengths=lengths)
            assert_same_bits(got, wanted)
            assert_same_bits(pullback(*guard.copy(wanted)), gradients)


def pooled(x: Array, operation: str, *args: Any, **options: Any) -> list[Array]:
    """Return y, indices if there are any, and dx, from a guarded gradient if x is guarded."""
    y, pullback = getattr(ops, f"{operation}_vjp")(x, *args, **options)
    parts = list(y) if isinstance(y, tuple) else [y]
    return [*parts, pullback(parts[0])]


def check_pools(guard: Guard, dtype: Any, rng: np.random.Generator) -> None:
    calls: list[tuple[tuple[int, ...], str, tuple[Any, ...], dict[str, Any]]] = []
    for problem in (*POOLS, *DILATED_POOLS):
        for operation in ("max_pool", "avg_pool"):
            if operation == "max_pool" or "dilation" not in problem.options:
                calls += [(problem.shape, operation, (problem.kernel_size,), problem.options)]
    for shape, size in ADAPTIVE_POOLS:
        calls += [(shape, operation, (size,), {}) for operation in ("adaptive_max_pool", "adaptive_avg_pool")]
    for shape, operation, args, options in calls:
        for layout in (None, {3: "NLC", 4: "NHWC", 5: "NDHWC"}[len(shape)]):
            print(operation, shape, args, options, layout, flush=True)
            x = rng.standard_normal(shape).astype(dtype)
            x = x if layout is None else np.ascontiguousarray(np.moveaxis(x, 1, -1))
            wanted = pooled(x, operation, *args, layout=layout, **options)
            with guard.results_too():
                assert_same_bits(pooled(guard.copy(x), operation, *args, layout=layout, **options), wanted)
                if "max" in operation:
                    values = getattr(ops, f"{operation}_values")(guard.copy(x), *args, layout=layout, **options)
                    assert_same_bits(values, wanted[0])
    for sizes in TIME_POOLS:
        for mode, layout in ((mode, layout) for mode in ("max", "sum", "kmax") for layout in ("TNC", "NTC", "NCT")):
            print("time_pool", sizes, mode, layout, flush=True)
            x = rng.standard_normal([dict(zip("TNC", sizes, strict=True))[letter] for letter in layout]).astype(dtype)
            for lengths in (None, np.full(sizes[1], (sizes[0] + 1) // 2)):
                options = {"layout": layout, "lengths": lengths, "k": 3}
                wanted = pooled(x, "time_pool", mode, **options)
                with guard.results_too():
                    assert_same_bits(pooled(guard.copy(x), "time_pool", mode, **options), wanted)


CHECKS = (
    check_recurrent,
    check_linear,
    check_conv,
    check_winograd,
    check_phases,
    check_pools,
    check_elementwise,
    check_the_rest,
)


def main() -> None:
    faulthandler.enable()
    ops.set_isa(sys.argv[1])
    ops.set_num_threads(2)
    for dtype in (np.float32, np.float64):
        for at_end in (True, False):
            print(np.dtype(dtype), "at the end" if at_end else "at the start", flush=True)
            for check in CHECKS:
                check(Guard(at_end), dtype, np.random.default_rng(1))


if __name__ == "__main__":
    main()
