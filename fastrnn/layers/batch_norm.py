"""Normalisation over a batch."""

from __future__ import annotations

from collections.abc import Callable
from inspect import cleandoc
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastrnn import ops
from fastrnn._checks import FloatArray, IntArray, as_array, as_dtype, finite_float, flag, positive_int
from fastrnn.errors import ShapeError
from fastrnn.layers.layer import registered
from fastrnn.layers.lengths import Joined, clear_past
from fastrnn.layers.norm import Norm
from fastrnn.layers.parameter import adding_to
from fastrnn.ops._spatial import is_channels_last, maps_spec
from fastrnn.ops.norm import given_maps

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d"]

Pullback: TypeAlias = Callable[[FloatArray], FloatArray]


class _BatchNorm(Norm):
    """Normalise each channel over batch and space.

        y = weight * (x - mean) / sqrt(var + eps) + bias

    ``layer.forward(x)`` takes mean and (biased) variance from x, and moves the running ones towards them:

        running = (1 - momentum) * running + momentum * new         the new variance is the unbiased one

    ``layer(x)`` takes the running ones, so that no sample depends on another. A layer that keeps none
    (``track_running_stats=False``) takes those of x there too.

    Parameters
    ----------
    num_features : int
        C.
    eps : float, at least 0
    momentum : float in [0, 1], or None
        None: running statistics are the plain means over all batches so far.
    affine : bool
        Whether there are a weight and a bias.
    track_running_stats : bool
    layout : "NCL", "NCHW", "NCDHW" or None; "NLC", "NHWC", "NDHWC"
    dtype : float32 or float64

    Attributes
    ----------
    weight, bias : (C,), or None
    running_mean, running_var : (C,), buffers, or None
    num_batches_tracked : (), buffer of int64, or None

    References
    ----------
    Ioffe & Szegedy 2015, Batch normalization.
    """

    #: Number of spatial axes.
    S: ClassVar[int]

    takes_lengths = True

    running_mean: FloatArray | None
    running_var: FloatArray | None
    num_batches_tracked: NDArray[np.int64] | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        layout: str | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        name = self._name
        C = self.num_features = positive_int(name, "num_features", num_features)
        self.eps = finite_float(name, "eps", eps, 0)
        self.momentum = None if momentum is None else finite_float(name, "momentum", momentum, 0, 1)
        self.affine = flag(name, "affine", affine)
        self.track_running_stats = flag(name, "track_running_stats", track_running_stats)
        self._last = is_channels_last(name, layout, self.S)
        self.layout = layout
        self.dtype = as_dtype(name, dtype)
        self._affine((C,), self.affine, self.affine)
        if self.track_running_stats:
            self._keep("running_mean", np.zeros(C, self.dtype))
            self._keep("running_var", np.ones(C, self.dtype))
            self._keep("num_batches_tracked", np.zeros((), np.int64))
        else:
            self.running_mean = self.running_var = self.num_batches_tracked = None

    def __call__(self, x: FloatArray, *, lengths: ArrayLike | None = None) -> FloatArray:
        """Return y, shape of x (N, C, *sizes) or as the layout says; `BatchNorm1d` also takes (N, C).

        Parameters
        ----------
        x : ndarray
        lengths : int array (N,), optional
            Number of valid steps of each sample along the last spatial axis. Those past them do not count in any
            statistics, and y is zero there.

        Raises
        ------
        ShapeError, DTypeError, LengthsError
        """
        array = self._input(x)
        ends = self._lengths(array, lengths)
        if not self.track_running_stats:
            return self._by_own_statistics(array, ends)[0]
        own = self._buffers
        y = given_maps(
            array,
            self._last or array.ndim == 2,  # a batch of vectors has its channels both first and last
            own["running_mean"].data,
            own["running_var"].data,
            *self._affine_values((self.num_features,)),
            self.eps,
        )
        return y if ends is None else clear_past(y, ends, self._time)

    def forward(self, x: FloatArray, *, lengths: ArrayLike | None = None) -> tuple[FloatArray, Pullback]:
        """Return y by the statistics of x, and the pullback; change the running statistics.

        Parameters
        ----------
        x, lengths : as for a call

        Returns
        -------
        y : ndarray, shape of x
        backward : ``backward(dy) -> dx``
            Adds to the gradients of weight and bias. May be called once.

        Raises
        ------
        ShapeError
            Also for a single value in each channel, which has no variance.
        DTypeError, LengthsError
        """
        array = self._input(x)
        y, (mean, var, count), pull = self._by_own_statistics(array, self._lengths(array, lengths))
        if self.track_running_stats:
            self._move(mean, var * self.dtype.type(count / (count - 1)))
        return self._trained(y, pull)

    def _by_own_statistics(self, x: FloatArray, lengths: IntArray | None) -> tuple[FloatArray, Any, Callable[..., Any]]:
        """Return y; mean, variance and count of each channel; and the pullback of the operation."""
        options = {"eps": self.eps, "layout": self._layout(x)}
        joined = None if lengths is None else Joined(lengths, self._time)
        valid, shape = x if joined is None else joined.join(x), x.shape
        (y, mean, var), pull = self._named(ops.batch_norm_vjp, valid, self.weight, self.bias, **options)
        moments = mean, var, valid.size // self.num_features
        if joined is None:
            return y, moments, pull

        def pull_joined(dy: FloatArray, **grads: Any) -> tuple[FloatArray, Any]:
            dx, sums = pull(joined.join(dy), **grads)
            return joined.part(dx, shape), sums

        return joined.part(y, shape), moments, pull_joined

    def _lengths(self, x: FloatArray, lengths: object) -> IntArray | None:
        return None if lengths is None else self._lengths_of_maps(x, lengths, self._time)

    @property
    def _time(self) -> int:
        """The last spatial axis."""
        return -2 if self._last else -1

    def _move(self, mean: FloatArray, var: FloatArray) -> None:
        """Move the running statistics, which other threads may do too."""
        own = self._buffers
        with adding_to(tuple(own.values())):
            with own["num_batches_tracked"].edit() as count:
                count += 1
                share = 1 / float(count) if self.momentum is None else self.momentum
            for name, new in (("running_mean", mean), ("running_var", var)):
                with own[name].edit() as running:
                    running *= 1 - share
                    running += share * new

    def _layout(self, x: FloatArray) -> str | None:
        return self.layout if x.ndim == self.S + 2 else None

    def _input(self, x: object) -> FloatArray:
        array = as_array(self._name, "x", x, self.dtype)
        vectors = self.S == 1 and array.ndim == 2
        fits = vectors or array.ndim == self.S + 2
        if not fits or array.shape[-1 if self._last else 1] != self.num_features:
            spec = maps_spec(self.S, self._last, f"C={self.num_features}")
            vector = f" or (N, C={self.num_features})" if self.S == 1 else ""
            raise ShapeError(f"{self._name}: 'x' must have shape {spec}{vector}, got {array.shape}")
        return array

    def _values(self) -> dict[str, Any]:
        return {
            "num_features": self.num_features,
            "eps": self.eps,
            "momentum": self.momentum,
            "affine": self.affine,
            "track_running_stats": self.track_running_stats,
            "layout": self.layout,
        }


@registered
class BatchNorm1d(_BatchNorm):
    """Batch normalisation of vectors (N, C) or signals (N, C, L)."""

    S = 1


@registered
class BatchNorm2d(_BatchNorm):
    """Batch normalisation of images (N, C, H, W)."""

    S = 2


@registered
class BatchNorm3d(_BatchNorm):
    """Batch normalisation of volumes (N, C, D, H, W)."""

    S = 3


for _kind in (BatchNorm1d, BatchNorm2d, BatchNorm3d):
    _kind.__doc__ = f"{_kind.__doc__}\n\n{cleandoc(_BatchNorm.__doc__ or '')}"
