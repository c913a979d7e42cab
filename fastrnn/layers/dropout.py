"""Dropout of elements, of whole maps, and of features over all times."""

from __future__ import annotations

from typing import Any

from fastrnn import ops
from fastrnn._checks import FloatArray, as_float_array, as_generator, finite_float, flag
from fastrnn.errors import ShapeError
from fastrnn.init import RandomSource
from fastrnn.layers.layer import registered
from fastrnn.layers.pooling import LAYOUTS, MapLayer, Optioned, Pullback
from fastrnn.layers.pullback import simple_pullback

__all__ = ["Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "LockedDropout"]


class _Dropping(Optioned):
    """Common part of all forms: a probability, and where the random numbers come from."""

    def _set_up(self, p: float, rng: RandomSource) -> None:
        self.p = finite_float(self._name, "p", p, 0, 1)
        self._rng = as_generator(self._name, rng)

    def _option_values(self) -> dict[str, Any]:
        return {"p": self.p}

    def _check(self, x: object) -> FloatArray:
        return as_float_array(self._name, "x", x)

    def _shared(self, ndim: int) -> tuple[int, ...]:
        """Return the axes along which elements are dropped together."""
        raise NotImplementedError

    def __call__(self, x: FloatArray) -> FloatArray:
        """Return x: nothing is dropped where a layer predicts.

        Raises
        ------
        ShapeError, DTypeError
        """
        return self._check(x)

    def forward(self, x: FloatArray) -> tuple[FloatArray, Pullback]:
        """Return y, with a new mask in each call, and the pullback.

        Returns
        -------
        y : ndarray, shape of x
        backward : ``backward(dy) -> dx``, with the mask of y. May be called once.

        Raises
        ------
        ShapeError, DTypeError
        """
        array = self._check(x)
        y, pull = ops.dropout_vjp(array, self.p, rng=self._rng, shared=self._shared(array.ndim))
        return y, simple_pullback(self._name, (), y, pull)


@registered
class Dropout(_Dropping):
    """In training, set each element to zero with probability p, and scale the others by 1 / (1 - p).

    Parameters
    ----------
    p : float in [0, 1]
    rng : int, numpy.random.Generator or None
        Source of the masks: the same seed gives the same masks, call after call.

    References
    ----------
    Srivastava et al. 2014, Dropout: a simple way to prevent neural networks from overfitting.
    """

    def __init__(self, p: float = 0.5, *, rng: RandomSource = None) -> None:
        self._set_up(p, rng)

    def _shared(self, ndim: int) -> tuple[int, ...]:
        return ()


class _DroppingMaps(_Dropping, MapLayer):
    """Common part of the dropouts of whole maps."""

    def __init__(self, p: float = 0.5, *, layout: str | None = None, rng: RandomSource = None) -> None:
        MapLayer.__init__(self, layout)
        self._set_up(p, rng)

    def _check(self, x: object) -> FloatArray:
        array = super()._check(x)
        if array.ndim not in (self._axes + 1, self._axes + 2):
            batched = ", ".join(self.layout)
            raise ShapeError(f"{self._name}: 'x' must have shape ({batched}) or ({batched[3:]}), got {array.shape}")
        return array

    def _shared(self, ndim: int) -> tuple[int, ...]:
        channels_first = self.layout == LAYOUTS[self._axes - 1][0]
        return tuple(range(ndim - self._axes, ndim) if channels_first else range(ndim - self._axes - 1, ndim - 1))


@registered
class Dropout1d(_DroppingMaps):
    """In training, set each whole channel (N, C, L) to zero with probability p; options as of `Dropout2d`."""

    _axes = 1


@registered
class Dropout2d(_DroppingMaps):
    """In training, set each whole map to zero with probability p, and scale the others by 1 / (1 - p).

    Neighbours in a map say much the same: an element that is dropped alone is hardly missed.

    Parameters
    ----------
    p : float in [0, 1]
    layout : str
        How the maps lie, (N, C, *sizes) or (N, *sizes, C): "NCL" or "NLC", "NCHW" or "NHWC", "NCDHW" or "NDHWC".
    rng : int, numpy.random.Generator or None
        Source of the masks: the same seed gives the same masks, call after call.

    Maps without N are taken as one sample.

    References
    ----------
    Tompson et al. 2015, Efficient object localization using convolutional networks.
    """

    _axes = 2


@registered
class Dropout3d(_DroppingMaps):
    """In training, set each whole map (N, C, D, H, W) to zero with probability p; options as of `Dropout2d`."""

    _axes = 3


@registered
class LockedDropout(_Dropping):
    """In training, set features of a sequence to zero, the same at all times, with probability p.

    Scaled by 1 / (1 - p) like `Dropout`. Between recurrent layers this keeps what one time tells the next, where a new mask at
    each time would wash it out.

    Parameters
    ----------
    p : float in [0, 1]
    batch_first : bool
        Whether x is (N, T, C) instead of (T, N, C). One sequence (T, C) has no N.
    rng : int, numpy.random.Generator or None
        Source of the masks: the same seed gives the same masks, call after call.

    References
    ----------
    Gal & Ghahramani 2016, A theoretically grounded application of dropout in recurrent neural networks.
    """

    def __init__(self, p: float = 0.5, batch_first: bool = False, *, rng: RandomSource = None) -> None:
        self._set_up(p, rng)
        self.batch_first = flag(self._name, "batch_first", batch_first)

    def _option_values(self) -> dict[str, Any]:
        return {"p": self.p, "batch_first": self.batch_first}

    def _check(self, x: object) -> FloatArray:
        array = super()._check(x)
        if array.ndim not in (2, 3):
            batched = "(N, T, C)" if self.batch_first else "(T, N, C)"
            raise ShapeError(f"{self._name}: 'x' must have shape {batched} or (T, C), got {array.shape}")
        return array

    def _shared(self, ndim: int) -> tuple[int, ...]:
        return (1,) if self.batch_first and ndim == 3 else (0,)
