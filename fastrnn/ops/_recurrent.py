"""What the recurrent operations share: from checked arrays to one call of the time loop, and its pullback."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn._checks import as_array, as_float_array, as_lengths, check_shape
from fastrnn._kernels._layers import run_layers
from fastrnn._kernels._memory import empty
from fastrnn._kernels._plan import Plan, ragged, uniform
from fastrnn._kernels._recurrent import Call, Weights
from fastrnn.errors import ArgumentError, DTypeError, ShapeError

Array = NDArray[Any]
Params = Mapping[str, Array]
Grads = dict[str, Array]


@dataclass(frozen=True, eq=False)
class Packed:
    """The weights of one cell as the kernels read them: a snapshot, valid for the instruction set it was made for.

    Accepted wherever a recurrent operation takes `params`.
    """

    cell: str
    weights: Weights
    shapes: dict[str, tuple[int, ...]]
    trainable: bool
    option: object = None

    @property
    def no_state(self) -> tuple[None, ...]:
        """Return a state of which nothing is given."""
        return (None, None) if self.cell == "lstm" else (None,)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Return (C, H, width of h)."""
        return self.weights.inputs, self.weights.units, self.weights.width

    def checked(self, name: str, cell: str, backward: bool, option: object = None) -> Packed:
        """Return self if it fits a call, else say why not."""
        if self.cell != cell or self.option != option:
            raise ArgumentError(
                f"{name}: 'params' must be packed for {_shown(cell, option)}, got {_shown(self.cell, self.option)}"
            )
        if backward and not self.trainable:
            raise ArgumentError(f"{name}: 'params' must be packed with backward=True, got backward=False")
        return self


def run_packed_layers(
    packs: Sequence[Packed], directions: int, x: object, lengths: object, batch_first: bool
) -> tuple[Array, tuple[Array, ...]] | None:
    """Return y and the parts of the last state (cells, N, width) of a whole layer from zero states, the short way.

    `packs` are the weights of its cells, layer by layer. None unless x, time or batch first, and the lengths lie as the kernels
    read them.
    """
    return run_layers(tuple([pack.weights for pack in packs]), directions, x, lengths, batch_first)


def _shown(cell: str, option: object) -> str:
    return cell if option is None else f"{cell} ({option})"


def shapes_of(arrays: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    """Return name -> shape."""
    return {key: array.shape for key, array in arrays.items()}


def as_parts(state: Array | None) -> tuple[Array] | None:
    """Return the parts of a state that is one array."""
    return None if state is None else (state,)


def check_params(name: str, params: Params, gates: int, projected: bool = False) -> dict[str, Array]:
    """Return the parameters of one cell as contiguous arrays of one dtype, shapes checked."""
    if not isinstance(params, Mapping):
        raise ArgumentError(
            f"{name}: 'params' must be a mapping of arrays or packed weights, got {type(params).__name__}"
        )
    known = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"] + ["weight_hr"] * projected
    missing = [key for key in known[:2] if key not in params]
    unknown = [key for key in params if key not in known]
    if missing or unknown:
        raise ArgumentError(
            f"{name}: 'params' must have {', '.join(known[:2])} and may have {', '.join(known[2:])}; "
            f"missing: {', '.join(missing) or 'none'}, unknown: {', '.join(unknown) or 'none'}"
        )
    dtype = as_float_array(name, "weight_ih", params["weight_ih"]).dtype
    arrays = {key: np.asarray(as_array(name, key, value, dtype), order="C") for key, value in params.items()}
    check_shape(name, "weight_ih", arrays["weight_ih"], "(G*H, C)")
    rows = len(arrays["weight_ih"])
    H = rows // gates
    if rows % gates or rows == 0 or arrays["weight_ih"].shape[1] == 0:
        raise ShapeError(
            f"{name}: 'weight_ih' must have shape ({gates}*H, C), both at least 1, got {arrays['weight_ih'].shape}"
        )
    R = H
    if "weight_hr" in arrays:
        check_shape(name, "weight_hr", arrays["weight_hr"], "(P, H)", H=H)
        R = len(arrays["weight_hr"])
        if R == 0:
            raise ShapeError(
                f"{name}: 'weight_hr' must have shape (P, H={H}), P at least 1, got {arrays['weight_hr'].shape}"
            )
    check_shape(name, "weight_hh", arrays["weight_hh"], "(G*H, R)", **{"G*H": rows, "R": R})
    for key in ("bias_ih", "bias_hh"):
        if key in arrays:
            check_shape(name, key, arrays[key], "(G*H)", **{"G*H": rows})
    return arrays


class Problem:
    """One checked call: its arrays, sizes and plan."""

    def __init__(
        self,
        name: str,
        packed: Packed,
        x: object,
        state: tuple[object, ...] | None,
        lengths: object,
        reverse: bool,
        out: Array | None,
    ) -> None:
        self.name, self.packed = name, packed
        self.dtype = packed.weights.dtype
        C, self.H, self.R = packed.sizes
        self.x = as_array(name, "x", x, self.dtype)
        if self.x.ndim != 3 or self.x.shape[2] != C:
            check_shape(name, "x", self.x, "(T, N, C)", C=C)
        self.T, self.N, _ = self.x.shape
        self.lengths = None if lengths is None else as_lengths(name, lengths, self.N, self.T)
        self.reverse = bool(reverse)
        self.state = packed.no_state if state is None else self.check_state(state, "0")
        self.out = None if out is None else self.check_out(out)
        self.plan: Plan | None = None
        self.call: Call | None = None

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of the parts of the state: h, and for LSTM c."""
        return (self.R, self.H) if len(self.packed.no_state) > 1 else (self.R,)

    def check_state(self, parts: tuple[object, ...], suffix: str) -> tuple[Array | None, ...]:
        """Return the parts of a state, None where the caller gave none."""
        if not isinstance(parts, tuple | list) or len(parts) != len(self.widths):
            got = f"{len(parts)} parts" if isinstance(parts, tuple | list) else type(parts).__name__
            raise ShapeError(
                f"{self.name}: 'state' must be {'a pair (h, c)' if len(self.widths) > 1 else 'one array'}, got {got}"
            )
        return tuple(
            None if part is None else self.check_part(letter + suffix, part, width)
            for letter, part, width in zip("hc", parts, self.widths, strict=False)
        )

    def check_part(self, arg: str, part: object, width: int) -> Array:
        array = as_array(self.name, arg, part, self.dtype)
        check_shape(self.name, arg, array, "(N, H)", N=self.N, H=width)
        return array

    def check_out(self, out: Array) -> Array:
        check_writable(self.name, "out", out, self.dtype)
        check_shape(self.name, "out", out, "(T, N, H)", T=self.T, N=self.N, H=self.R)
        return out

    def untouched(self, parts: tuple[Array | None, ...]) -> tuple[Array, ...]:
        """Return copies of the parts of a state that no step changed, zeros for None."""
        shapes = ((self.N, width) for width in self.widths)
        return tuple(
            np.zeros(shape, self.dtype) if part is None else np.array(part)
            for part, shape in zip(parts, shapes, strict=True)
        )

    def contiguous(self, parts: tuple[Array | None, ...]) -> list[Array | None]:
        """Return the parts of a state as contiguous arrays, and None for a c that there is not."""
        found = [None if part is None else np.ascontiguousarray(part) for part in parts]
        return found if len(found) > 1 else [*found, None]

    def run(self, keep: bool) -> tuple[Array, tuple[Array, ...]]:
        """Run the time loop; return y and the parts of the last state."""
        shape = self.T, self.N, self.R
        if self.T == 0 or self.N == 0:
            y = np.zeros(shape, self.dtype) if self.out is None else self.out
            return y, self.untouched(self.state)
        y = empty(shape, self.dtype) if self.out is None else self.out
        if self.lengths is None or (self.lengths == self.T).all():
            self.plan = uniform(self.T, self.N, self.reverse)
            return self.run_even(y, keep)
        self.plan = ragged(self.lengths, self.reverse)
        return self.run_ragged(y, keep)

    def loop(self, x: Array, y: Array, keep: bool) -> tuple[Array, ...]:
        """Run the time loop over rows of x and y; return the last state."""
        plan = self.plan
        assert plan is not None
        h0, c0 = self.contiguous(self.state)
        call = Call(self.packed.weights, x, y, plan, h0, c0, keep)
        self.call = call if keep else None
        return call.last()

    def run_even(self, y: Array, keep: bool) -> tuple[Array, tuple[Array, ...]]:
        x_rows, y_rows = as_rows(self.x), as_rows(y)
        if keep or x_rows is None:
            x_rows = self.copied(self.x)
        if keep or y_rows is None or (self.out is not None and np.may_share_memory(x_rows, y_rows)):
            own = empty((self.T * self.N, self.R), self.dtype)
            state = self.loop(x_rows, own, keep)
            y[...] = own.reshape(y.shape)
            return y, state
        return y, self.loop(x_rows, y_rows, keep)

    def run_ragged(self, y: Array, keep: bool) -> tuple[Array, tuple[Array, ...]]:
        plan = self.plan
        assert plan is not None
        rows = empty((plan.rows, self.R), self.dtype)
        state = self.loop(plan.gathered(self.x), rows, keep)
        if y.strides[2] == y.itemsize:
            plan.scatter(rows, y)
        else:
            steps = empty(y.shape, self.dtype)
            plan.scatter(rows, steps)
            y[...] = steps
        return y, state

    def copied(self, array: Array) -> Array:
        """Return the rows of (T, N, n) in memory of their own."""
        rows = empty(array.shape, self.dtype)
        rows[...] = array
        return rows.reshape(self.T * self.N, array.shape[2])

    def pull_back(
        self, dy: object, dstate: tuple[object, ...] | None, grads: Mapping[str, Array] | None
    ) -> tuple[Array, tuple[Array, ...], Grads]:
        """Return dx, the gradient of the initial state, and the parameters' gradients; check all before changing any."""
        dy_array = self.check_dy(dy)
        parts = self.packed.no_state if dstate is None else self.check_state(dstate, "_n gradient")
        sums = check_grads(self.name, self.packed.shapes, grads, self.dtype)
        if self.call is None:
            dx = np.zeros(self.x.shape, self.dtype)
            return dx, self.untouched(parts), sums
        dx, start = self.run_back(dy_array, parts, sums)
        return dx, start, sums

    def check_dy(self, dy: object) -> Array | None:
        if dy is None:
            return None
        array = as_array(self.name, "dy", dy, self.dtype)
        check_shape(self.name, "dy", array, "(T, N, H)", T=self.T, N=self.N, H=self.R)
        return array

    def run_back(
        self, dy: Array | None, parts: tuple[Array | None, ...], sums: Grads
    ) -> tuple[Array, tuple[Array, ...]]:
        plan = self.plan
        assert plan is not None and self.call is not None
        dh, dc = self.contiguous(parts)
        dx = empty(self.x.shape, self.dtype)
        if plan.order is None:
            rows = None if dy is None else as_rows(dy)
            dy_rows = self.copied(dy) if dy is not None and rows is None else rows
            dx_rows = dx.reshape(plan.rows, dx.shape[2])
        else:
            dy_rows = None if dy is None else plan.gathered(dy)
            dx_rows = empty((plan.rows, dx.shape[2]), self.dtype)
        work = {
            key: value if value.flags.c_contiguous else np.zeros(value.shape, self.dtype) for key, value in sums.items()
        }
        start = self.call.backward(dy_rows, dh, dc, dx_rows, work)
        for key, value in work.items():
            if value is not sums[key]:
                sums[key] += value
        if plan.order is not None:
            plan.scatter(dx_rows, dx)
        return dx, start


def run_forward(
    name: str,
    packed: Packed,
    x: object,
    state: tuple[object, ...] | None,
    lengths: object,
    reverse: bool,
    out: Array | None,
) -> tuple[Array, tuple[Array, ...]]:
    """Check a call for inference and run it; return y and the parts of the last state."""
    if state is None and out is None and not reverse:
        plain = run_layers((packed.weights,), 1, x, lengths, False)
        if plain:
            return plain[0], tuple([part[0] for part in plain[1]])
    return Problem(name, packed, x, state, lengths, reverse, out).run(keep=False)


def as_rows(array: Array) -> Array | None:
    """Return a (T, N, C) array as (T*N, C) without a copy, or None if the kernels cannot step through its rows as they lie."""
    T, N, C = array.shape
    if array.flags.c_contiguous and array.flags.aligned:
        return array.reshape(T * N, C)
    outer, inner, last = array.strides
    if not array.flags.aligned or (C > 1 and last != array.itemsize):
        return None
    if N == 1 or T == 1 or outer == N * inner:
        step = outer if N == 1 else inner
        if step >= C * array.itemsize and step % array.itemsize == 0:
            return array.reshape(T * N, C)  # a view, as the two axes are one
    return None


def check_writable(name: str, arg: str, array: object, dtype: Any) -> None:
    """Raise unless `array` is an array of exactly `dtype` that can be written."""
    if not isinstance(array, np.ndarray):
        raise DTypeError(f"{name}: '{arg}' must be a writable {dtype} array, got {type(array).__name__}")
    if array.dtype != dtype:
        raise DTypeError(f"{name}: '{arg}' must have dtype {dtype}, got {array.dtype}")
    if not array.flags.writeable:
        raise ArgumentError(f"{name}: '{arg}' must be writable, got a read-only array")


def check_grads(name: str, shapes: dict[str, tuple[int, ...]], grads: Mapping[str, Array] | None, dtype: Any) -> Grads:
    """Return the arrays to add gradients into: those given, zeros for the rest."""
    if grads is not None and not isinstance(grads, Mapping):
        raise ArgumentError(f"{name}: 'grads' must be a mapping of arrays, got {type(grads).__name__}")
    given = grads or {}
    for key, shape in shapes.items():
        if key not in given:
            continue
        check_writable(name, f"grads[{key!r}]", given[key], dtype)
        if given[key].shape != shape:
            raise ShapeError(f"{name}: 'grads[{key!r}]' must have shape {shape}, got {given[key].shape}")
    return {key: given[key] if key in given else np.zeros(shape, dtype) for key, shape in shapes.items()}


def once(name: str, pullback: Callable[..., Any], *, overwrites: bool = False) -> Callable[..., Any]:
    """Return `pullback` so that it succeeds once; a call that raises does not count and can be made again.

    If the work `overwrites` what was saved, only a call that was refused for its arguments can.
    """
    retried = (TypeError, ValueError, LookupError) if overwrites else Exception
    used = False

    def guarded(*args: Any, **kwargs: Any) -> Any:
        nonlocal used
        if used:
            raise RuntimeError(f"{name}: a pullback can be called only once")
        used = True
        try:
            return pullback(*args, **kwargs)
        except retried:
            used = False
            raise

    return guarded
