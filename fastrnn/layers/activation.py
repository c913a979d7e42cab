"""Elementwise activations as layers."""

from __future__ import annotations

from typing import Any, ClassVar

from fastrnn import ops
from fastrnn._checks import FloatArray, as_float_array, choice, finite_float
from fastrnn.errors import ArgumentError
from fastrnn.layers.layer import registered
from fastrnn.layers.pooling import Optioned, Pullback
from fastrnn.layers.pullback import simple_pullback

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "Mish",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Softsign",
    "Tanh",
]


class _Activation(Optioned):
    """Common part of the elementwise activations: x of any shape, float32 or float64."""

    _kind: ClassVar[str]

    def _option_values(self) -> dict[str, Any]:
        return {}

    def __call__(self, x: FloatArray) -> FloatArray:
        """Return y, of the shape of x.

        Raises
        ------
        ShapeError, DTypeError
        """
        return ops.activation_forward(as_float_array(self._name, "x", x), self._kind, **self._option_values())

    def forward(self, x: FloatArray) -> tuple[FloatArray, Pullback]:
        """Return y, of the shape of x, and the pullback.

        Returns
        -------
        y : ndarray
        backward : ``backward(dy) -> dx``. May be called once.

        Raises
        ------
        ShapeError, DTypeError
        """
        y, pull = ops.activation_vjp(as_float_array(self._name, "x", x), self._kind, **self._option_values())
        return y, simple_pullback(self._name, (), y, pull)


@registered
class ReLU(_Activation):
    """y = max(x, 0)."""

    _kind = "relu"


@registered
class LeakyReLU(_Activation):
    """y = x for x > 0, else negative_slope x.

    Parameters
    ----------
    negative_slope : float

    References
    ----------
    Maas, Hannun & Ng 2013, Rectifier nonlinearities improve neural network acoustic models.
    """

    _kind = "leaky_relu"

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = finite_float(self._name, "negative_slope", negative_slope)

    def _option_values(self) -> dict[str, Any]:
        return {"negative_slope": self.negative_slope}


@registered
class ELU(_Activation):
    """y = x for x > 0, else alpha (e**x - 1).

    Parameters
    ----------
    alpha : float

    References
    ----------
    Clevert, Unterthiner & Hochreiter 2016, Fast and accurate deep network learning by exponential linear units.
    """

    _kind = "elu"

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = finite_float(self._name, "alpha", alpha)

    def _option_values(self) -> dict[str, Any]:
        return {"alpha": self.alpha}


@registered
class SELU(_Activation):
    """y = scale x for x > 0, else scale alpha (e**x - 1), with scale = 1.0507 and alpha = 1.6733.

    References
    ----------
    Klambauer et al. 2017, Self-normalizing neural networks.
    """

    _kind = "selu"


@registered
class GELU(_Activation):
    """y = x P(X <= x) for a normal X.

    Parameters
    ----------
    approximate : "none" or "tanh"
        "tanh" stands for ``0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x**3)))``.

    References
    ----------
    Hendrycks & Gimpel 2016, Gaussian error linear units.
    """

    _kind = "gelu"

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = choice(self._name, "approximate", approximate, ("none", "tanh"))

    def _option_values(self) -> dict[str, Any]:
        return {"approximate": self.approximate}


@registered
class SiLU(_Activation):
    """y = x sigmoid(x), also known as swish.

    References
    ----------
    Elfwing, Uchibe & Doya 2018, Sigmoid-weighted linear units for neural network function approximation.
    """

    _kind = "silu"


@registered
class Mish(_Activation):
    """y = x tanh(log(1 + e**x)).

    References
    ----------
    Misra 2020, Mish: a self regularized non-monotonic activation function.
    """

    _kind = "mish"


@registered
class Softplus(_Activation):
    """y = log(1 + e**(beta x)) / beta, and x itself where beta x > threshold.

    Parameters
    ----------
    beta : float, not 0
    threshold : float
    """

    _kind = "softplus"

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta = finite_float(self._name, "beta", beta)
        if self.beta == 0:
            raise ArgumentError(f"{self._name}: 'beta' must not be 0, got {beta!r}")
        self.threshold = finite_float(self._name, "threshold", threshold)

    def _option_values(self) -> dict[str, Any]:
        return {"beta": self.beta, "threshold": self.threshold}


@registered
class Softsign(_Activation):
    """y = x / (1 + abs(x))."""

    _kind = "softsign"


@registered
class Hardtanh(_Activation):
    """y = x, at least min_val and at most max_val.

    Parameters
    ----------
    min_val, max_val : float, the first smaller
    """

    _kind = "hardtanh"

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        self.min_val = finite_float(self._name, "min_val", min_val)
        self.max_val = finite_float(self._name, "max_val", max_val)
        if self.min_val >= self.max_val:
            raise ArgumentError(f"{self._name}: 'max_val' must be larger than 'min_val' {min_val!r}, got {max_val!r}")

    def _option_values(self) -> dict[str, Any]:
        return {"min_val": self.min_val, "max_val": self.max_val}


@registered
class ReLU6(_Activation):
    """y = min(max(x, 0), 6)."""

    _kind = "relu6"


@registered
class Hardsigmoid(_Activation):
    """y = min(max(x + 3, 0), 6) / 6."""

    _kind = "hardsigmoid"


@registered
class Hardswish(_Activation):
    """y = x min(max(x + 3, 0), 6) / 6.

    References
    ----------
    Howard et al. 2019, Searching for MobileNetV3.
    """

    _kind = "hardswish"


@registered
class Sigmoid(_Activation):
    """y = 1 / (1 + e**-x)."""

    _kind = "sigmoid"


@registered
class Tanh(_Activation):
    """y = tanh(x)."""

    _kind = "tanh"
