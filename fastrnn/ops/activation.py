"""Elementwise functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn._checks import FLOATS, as_float_array, choice, finite_float
from fastrnn._kernels import _activation
from fastrnn._kernels._memory import empty
from fastrnn.errors import ArgumentError
from fastrnn.ops._pooling import as_gradient
from fastrnn.ops._recurrent import once

Array = NDArray[Any]
Pullback = Callable[[Array], Array]

__all__ = ["ACTIVATIONS", "activation_forward", "activation_vjp", "add", "exp", "sigmoid", "tanh"]


def _mapped(name: str, kernel: Callable[[Array, Array], None], x: Array) -> Array:
    array = np.asarray(as_float_array(name, "x", x), order="C")
    y = empty(array.shape, array.dtype)
    kernel(array, y)
    return y


def exp(x: Array) -> Array:
    """Return e**x, elementwise; the largest error stands in src_c/kernels/vmath_f32.h and vmath_f64.h."""
    return _mapped("exp", _activation.exp, x)


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + e**-x), elementwise."""
    return _mapped("sigmoid", _activation.sigmoid, x)


def tanh(x: Array) -> Array:
    """Return tanh(x), elementwise."""
    return _mapped("tanh", _activation.tanh, x)


def add(a: Array, b: Array, out: Array) -> Array:
    """Return out = a + b, as `numpy.add`; several threads share it if all are alike and contiguous. `out` may be a or b."""
    arrays = a, b, out
    alike = a.dtype in FLOATS and all(array.dtype == a.dtype and array.shape == a.shape for array in arrays)
    if alike and all(array.flags.c_contiguous and array.flags.aligned for array in arrays):
        _activation.add(*arrays)
        return out
    return np.add(a, b, out=out)


class Activation(NamedTuple):
    """One function as the kernels know it."""

    curve: bool  # a smooth one, which leaves its slopes; pieces of lines leave a mask
    code: int
    a: float = 0.0
    b: float = 0.0
    inside: float = 1.0  # the slopes of the pieces
    outside: float = 0.0

    def apply(self, x: Array, y: Array, other: Array | None = None) -> None:
        """y = f(x), or f(x + other); y may be x. All contiguous and of one type."""
        _activation.activate(self.code, x, y, None, self.a, self.b, other)

    def apply_keeping(self, x: Array, y: Array, other: Array | None = None) -> Array:
        """Do what `apply` does; return what `pull` needs."""
        saved = empty(x.shape, x.dtype if self.curve else np.uint8)
        _activation.activate(self.code, x, y, saved, self.a, self.b, other)
        return saved

    def pull(self, saved: Array, dy: Array) -> Array:
        """Return dx for a contiguous dy."""
        dx = empty(dy.shape, dy.dtype)
        if self.curve:
            _activation.multiply(saved, dy, dx)
        else:
            _activation.masked_scale(dy, saved, dx, self.inside, self.outside, self.outside == 0)
        return dx


#: The parameters of the functions that have some, with their defaults.
_PARAMS: dict[str, dict[str, Any]] = {
    "elu": {"alpha": 1.0},
    "gelu": {"approximate": "none"},
    "hardtanh": {"min_val": -1.0, "max_val": 1.0},
    "leaky_relu": {"negative_slope": 0.01},
    "softplus": {"beta": 1.0, "threshold": 20.0},
}
#: Those that are a kernel with two numbers.
_AS_KERNEL: dict[str, tuple[str, float, float]] = {
    "relu6": ("hardtanh", 0.0, 6.0),
    "selu": ("elu", 1.6732632423543772848170429916717, 1.0507009873554804934193349852946),
}
#: The names that `activation_forward` knows.
ACTIVATIONS = tuple(sorted({*_activation.CURVES, *_activation.PIECES, *_AS_KERNEL} - {"gelu_tanh"}))


def as_activation(name: str, kind: object, params: dict[str, Any], arg: str = "kind") -> Activation:
    """Return the function of this name, its parameters checked."""
    known = choice(name, arg, kind, ACTIVATIONS)
    defaults = _PARAMS.get(known, {})
    unknown = [key for key in params if key not in defaults]
    if unknown:
        takes = ", ".join(map(repr, defaults)) or "no parameters"
        raise ArgumentError(
            f"{name}: '{unknown[0]}' must be left out, as {known!r} takes {takes}, got {params[unknown[0]]!r}"
        )
    values = {**defaults, **params}
    if known == "gelu":
        tanh_form = choice(name, "approximate", values["approximate"], ("none", "tanh")) == "tanh"
        return Activation(True, _activation.CURVES["gelu_tanh" if tanh_form else "gelu"])
    numbers = [*(finite_float(name, key, value) for key, value in values.items()), 0.0, 0.0]
    usual = known, numbers[0], 1.0 if known == "elu" else numbers[1]
    kernel, a, b = _AS_KERNEL.get(known, usual)
    if kernel == "softplus" and a == 0:
        raise ArgumentError(f"{name}: 'beta' must not be 0, got {values['beta']!r}")
    if kernel == "hardtanh" and a >= b:
        raise ArgumentError(f"{name}: 'max_val' must be larger than 'min_val' {a:g}, got {b:g}")
    if kernel in _activation.CURVES:
        return Activation(True, _activation.CURVES[kernel], a, b)
    inside, outside = {"hardsigmoid": (1 / 6, 0.0), "leaky_relu": (1.0, a)}.get(kernel, (1.0, 0.0))
    return Activation(False, _activation.PIECES[kernel], a, b, inside, outside)


def activation_forward(x: Array, kind: str, **params: Any) -> Array:
    """Return y = f(x), elementwise.

        relu            max(x, 0)
        leaky_relu      x for x > 0, else negative_slope x
        elu             x for x > 0, else alpha (e**x - 1)
        selu            1.0507 elu(x) with alpha = 1.6733
        gelu            x P(X <= x) for a normal X; approximate="tanh": x sigmoid(2 sqrt(2/pi) (x + 0.044715 x**3))
        silu            x sigmoid(x)
        mish            x tanh(log(1 + e**x))
        softplus        log(1 + e**(beta x)) / beta, and x where beta x > threshold
        softsign        x / (1 + abs(x))
        hardtanh        x, at least min_val and at most max_val
        relu6           min(max(x, 0), 6)
        hardsigmoid     relu6(x + 3) / 6
        hardswish       x relu6(x + 3) / 6
        sigmoid, tanh

    Parameters
    ----------
    x : ndarray of any shape, float32 or float64
    kind : str
        Name of f, as above.
    **params
        negative_slope=0.01, alpha=1.0, approximate="none", beta=1.0 and threshold=20.0, min_val=-1.0 and max_val=1.0,
        where f has them.

    Returns
    -------
    y : ndarray, shape of x

    Raises
    ------
    DTypeError, ArgumentError

    References
    ----------
    elu: Clevert et al. 2016; selu: Klambauer et al. 2017; gelu: Hendrycks & Gimpel 2016; silu: Elfwing et al. 2018; mish:
    Misra 2020; softplus: Dugas et al. 2001; hardswish: Howard et al. 2019.
    """
    function = as_activation("activation_forward", kind, params)
    array = np.asarray(as_float_array("activation_forward", "x", x), order="C")
    y = empty(array.shape, array.dtype)
    function.apply(array, y)
    return y


def activation_vjp(x: Array, kind: str, **params: Any) -> tuple[Array, Pullback]:
    """Return y = f(x) and the pullback. Arguments are those of `activation_forward`.

        dx = f'(x) dy

    The forward pass computes the slopes too; the pullback keeps them, or one byte for each element where they are two.

    Returns
    -------
    y : ndarray, shape of x
    pullback : ``pullback(dy) -> dx``. May succeed once; a second call raises RuntimeError.
    """
    name = "activation_vjp"
    function = as_activation(name, kind, params)
    array = np.asarray(as_float_array(name, "x", x), order="C")
    y = empty(array.shape, array.dtype)
    saved = function.apply_keeping(array, y)
    form = array.shape, array.dtype
    return y, once(name, lambda dy: function.pull(saved, as_gradient(name, dy, form)))
