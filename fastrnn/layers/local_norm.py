"""Normalisation by what is near: over neighbouring channels, or over a window of space and all channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from fastrnn import ops
from fastrnn._checks import FloatArray, finite_float, positive_int
from fastrnn.errors import ArgumentError, DTypeError, ShapeError
from fastrnn.layers.layer import Layer, registered
from fastrnn.layers.pullback import simple_pullback

__all__ = ["LocalContrastNorm", "LocalResponseNorm"]

Pullback: TypeAlias = Callable[[FloatArray], FloatArray]


class _LocalNorm(Layer):
    """What both share: they have options and no parameters, and take either dtype."""

    def _values(self) -> dict[str, Any]:
        """Return all options by name."""
        raise NotImplementedError

    def _run_vjp(self, x: FloatArray) -> tuple[FloatArray, Pullback]:
        raise NotImplementedError

    def _named(self, x: FloatArray) -> tuple[FloatArray, Pullback]:
        """Run the operation; its errors name this layer instead."""
        try:
            return self._run_vjp(x)
        except (ArgumentError, DTypeError, ShapeError) as error:
            text = str(error).partition(": ")[2]
            raise type(error)(f"{self._name}: {text}") from None

    def __call__(self, x: FloatArray) -> FloatArray:
        """Return y, shape of x.

        Raises
        ------
        ShapeError, DTypeError
        """
        return self._named(x)[0]

    def forward(self, x: FloatArray) -> tuple[FloatArray, Pullback]:
        """Return what calling returns, and the pullback.

        Returns
        -------
        y : ndarray, shape of x
        backward : ``backward(dy) -> dx``. May be called once.

        Raises
        ------
        ShapeError, DTypeError
        """
        y, pull = self._named(x)
        return y, simple_pullback(self._name, (), y, pull)

    def config(self) -> dict[str, Any]:
        """Return the options of the layer."""
        return {**super().config(), **self._values()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Layer:
        """Build a layer from what `config` returned."""
        return cls(**{name: value for name, value in config.items() if name != "type"})

    def _options(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self._values().items())


@registered
class LocalResponseNorm(_LocalNorm):
    """Divide each value by a power of the squares in the channels around it.

        y_c = x_c / (k + alpha / size * sum of x_j**2 over j = c - size//2 .. c + (size-1)//2) ** beta

    Parameters
    ----------
    size : int
    alpha, beta, k : float

    References
    ----------
    Krizhevsky, Sutskever & Hinton 2012, ImageNet classification with deep convolutional neural networks, 3.3.
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        name = self._name
        self.size = positive_int(name, "size", size)
        self.alpha, self.beta = finite_float(name, "alpha", alpha), finite_float(name, "beta", beta)
        self.k = finite_float(name, "k", k)

    def _run_vjp(self, x: FloatArray) -> tuple[FloatArray, Pullback]:
        return ops.local_response_norm_vjp(x, self.size, alpha=self.alpha, beta=self.beta, k=self.k)

    def _values(self) -> dict[str, Any]:
        return {"size": self.size, "alpha": self.alpha, "beta": self.beta, "k": self.k}


@registered
class LocalContrastNorm(_LocalNorm):
    """Subtract the weighted mean around each place of maps (N, C, H, W), then divide by the standard deviation around it.

        v = x - W x         s = sqrt(W v**2)            y = v / max(mean of s, s, eps)

    W is the mean over all channels and a window of size x size places with Gaussian weights.

    Parameters
    ----------
    size : int, odd
    sigma : float
        Standard deviation of the window, in places. size / 4 if None.
    eps : float

    References
    ----------
    Jarrett, Kavukcuoglu, Ranzato & LeCun 2009, What is the best multi-stage architecture for object recognition?, 2.
    """

    def __init__(self, size: int = 9, sigma: float | None = None, eps: float = 1e-5) -> None:
        name = self._name
        self.size = positive_int(name, "size", size)
        if self.size % 2 == 0:
            raise ArgumentError(f"{name}: 'size' must be odd, got {size}")
        self.sigma = None if sigma is None else finite_float(name, "sigma", sigma, 1e-6)
        self.eps = finite_float(name, "eps", eps, 0)

    def _run_vjp(self, x: FloatArray) -> tuple[FloatArray, Pullback]:
        return ops.local_contrast_norm_vjp(x, self.size, sigma=self.sigma, eps=self.eps)

    def _values(self) -> dict[str, Any]:
        return {"size": self.size, "sigma": self.sigma, "eps": self.eps}
