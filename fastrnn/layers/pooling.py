"""What all pooling layers are: options and no parameters, maps with or without a batch axis, in one of two layouts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np

from fastrnn._checks import FloatArray, IntArray, as_float_array, choice, plain_int
from fastrnn.errors import ArgumentError, ShapeError
from fastrnn.layers.layer import Layer
from fastrnn.layers.lengths import forward_within, predict_within, slid_lengths
from fastrnn.layers.pullback import simple_pullback
from fastrnn.ops._pooling import contiguous, new_pooling

__all__ = ["LAYOUTS", "MapLayer", "Optioned", "PerAxis", "PoolLayer", "Pullback", "Remembering", "Sizes", "SlidingPool"]

PerAxis: TypeAlias = int | Sequence[int]
Sizes: TypeAlias = tuple[int, ...]
Pullback: TypeAlias = Callable[[FloatArray], FloatArray]

#: Channels first and channels last, for one, two and three spatial axes.
LAYOUTS = (("NCL", "NLC"), ("NCHW", "NHWC"), ("NCDHW", "NDHWC"))


class Optioned(Layer):
    """A layer of options alone."""

    def _option_values(self) -> dict[str, Any]:
        """Return the options by name, as the constructor takes them."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """Return the options of the layer."""
        return {**super().config(), **self._option_values()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Layer:
        """Build the layer from what `config` returned."""
        return cls(**{name: value for name, value in config.items() if name != "type"})

    def _options(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self._option_values().items())

    def _with_pullback(
        self, y: FloatArray, batched: Sizes, pull: Pullback, shape: Sizes
    ) -> tuple[FloatArray, Pullback]:
        """Return y and the layer's pullback, from the one of an operation with a batch axis."""
        return y, simple_pullback(self._name, (), y, lambda dy: pull(dy.reshape(batched)).reshape(shape))


class Remembering(Optioned):
    """A layer that keeps how it pools arrays of recent shapes, until an option changes."""

    _pooling: Any

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        self.__dict__["_pooling"] = new_pooling(self._name)

    def _place(self, shape: Sizes, dtype: np.dtype[Any]) -> Any:
        """Return the pooling of arrays of a shape that has a batch axis."""
        raise NotImplementedError

    def _input(self, x: object) -> tuple[FloatArray, Callable[[FloatArray], FloatArray]]:
        """Return x with a batch axis, and what takes that axis off again if x had none."""
        raise NotImplementedError

    def _placed(self, x: FloatArray) -> Any:
        """Return the pooling of x, now kept."""
        placed = self._place(x.shape, np.dtype(x.dtype.type))
        self._pooling.keep(placed)
        return placed

    def _predict(self, x: FloatArray) -> Any:
        y = self._pooling.predict(x)
        if y is None:
            array, whole = self._input(x)
            maps = contiguous(self._name, array)
            y = self._pooling.predict(maps)
            y = whole(self._placed(maps).predict(maps) if y is None else y)
        return y

    def _train(self, x: FloatArray) -> tuple[Any, Pullback]:
        result: tuple[Any, Pullback] | None = self._pooling.train(x)
        if result is None:
            array, whole = self._input(x)
            maps = contiguous(self._name, array)
            y, pull = self._pooling.train(maps) or self._placed(maps).train(maps, self._pooling)
            result = self._with_pullback(whole(y), y.shape, pull, np.shape(x))
        return result


class MapLayer(Optioned):
    """Common part of the layers of maps (N, C, *sizes) or (N, *sizes, C)."""

    _axes: ClassVar[int]

    def __init__(self, layout: str | None) -> None:
        layouts = LAYOUTS[self._axes - 1]
        self.layout = layouts[0] if layout is None else choice(self._name, "layout", layout, layouts)

    def config(self) -> dict[str, Any]:
        """Return the options of the layer."""
        return {**super().config(), "layout": self.layout}

    def _options(self) -> str:
        usual = LAYOUTS[self._axes - 1][0]
        return super()._options() + ("" if self.layout == usual else f", layout={self.layout!r}")

    def _input(self, x: object) -> tuple[FloatArray, Callable[[FloatArray], FloatArray]]:
        """Return x with a batch axis, and what takes that axis off again if x had none."""
        array = as_float_array(self._name, "x", x)
        if array.ndim == self._axes + 2:
            return array, lambda y: y
        if array.ndim != self._axes + 1:
            batched = ", ".join(self.layout)
            raise ShapeError(f"{self._name}: 'x' must have shape ({batched}) or ({batched[3:]}), got {array.shape}")
        return array[None], lambda y: y[0]

    def _per_axis(self, arg: str, value: object, low: int) -> int | Sizes:
        """Return an option, one int or one for each axis, as it was given."""
        if not isinstance(value, (tuple, list)):
            return plain_int(self._name, arg, value, low)
        if len(value) != self._axes:
            raise ArgumentError(f"{self._name}: '{arg}' must be an int or {self._axes} of them, got {value!r}")
        return tuple(plain_int(self._name, arg, item, low) for item in value)

    def _tuple(self, value: int | Sizes) -> Sizes:
        """Return an option for each axis."""
        return value if isinstance(value, tuple) else (value,) * self._axes

    def _padding(self, value: object, kernel_size: int | Sizes) -> int | Sizes:
        """Return the padding, at most half of the kernel."""
        padding = self._per_axis("padding", value, 0)
        if any(low > k // 2 for low, k in zip(self._tuple(padding), self._tuple(kernel_size), strict=True)):
            raise ArgumentError(
                f"{self._name}: 'padding' must be at most half of 'kernel_size' {kernel_size}, got {value!r}"
            )
        return padding


class PoolLayer(MapLayer, Remembering):
    """Common part of the layers that pool over windows."""

    def __call__(self, x: FloatArray) -> Any:
        """Return y, or (y, indices) with `return_indices`.

        Raises
        ------
        ShapeError, DTypeError
        """
        return self._predict(x)

    def forward(self, x: FloatArray) -> tuple[Any, Pullback]:
        """Return what a call returns, and the pullback.

        Returns
        -------
        y : ndarray, or (y, indices) with `return_indices`
        backward : ``backward(dy) -> dx``. May be called once.

        Raises
        ------
        ShapeError, DTypeError
        """
        return self._train(x)


class SlidingPool(PoolLayer):
    """Common part of the layers whose windows slide, which may follow sequences of different lengths."""

    takes_lengths = True

    #: What stands for steps past a length.
    _past_lengths = 0.0
    kernel_size: Any
    stride: Any

    def __call__(self, x: FloatArray, *, lengths: Any = None) -> Any:
        """Return y, or (y, indices) with `return_indices`.

        Parameters
        ----------
        x : ndarray
        lengths : int array (N,), optional
            Number of valid places of each sample along the last spatial axis. Windows see nothing past them, where an
            average counts zeros; y is zero past ``out_lengths(lengths)``.

        Raises
        ------
        ShapeError, DTypeError, LengthsError
        """
        return self._predict(x) if lengths is None else predict_within(self, x, lengths, self._axes)

    def forward(self, x: FloatArray, *, lengths: Any = None) -> tuple[Any, Pullback]:
        """Return what a call returns, and the pullback.

        Returns
        -------
        y : ndarray, or (y, indices) with `return_indices`
        backward : ``backward(dy) -> dx``. May be called once.

        Raises
        ------
        ShapeError, DTypeError, LengthsError
        """
        return self._train(x) if lengths is None else forward_within(self, x, lengths, self._axes)

    def out_lengths(self, lengths: Any) -> Any:
        """Return how many windows sequences of these lengths, along the last spatial axis, have.

            out = floor((length + 2 padding - dilation (kernel - 1) - 1) / stride) + 1

        With `ceil_mode` a rest counts too, if its window starts before the padding at the end.

        Raises
        ------
        LengthsError
            A sequence has not one window.
        """
        kernel, stride = self._tuple(self.kernel_size)[-1], self._tuple(self.stride)[-1]
        padding = self._tuple(getattr(self, "padding", 0))[-1]
        span = self._tuple(getattr(self, "dilation", 1))[-1] * (kernel - 1) + 1
        ceil_mode: bool = getattr(self, "ceil_mode", False)

        def count(given: IntArray) -> IntArray:
            room = given + 2 * padding - span
            if not ceil_mode:
                return np.floor_divide(room, stride) + 1
            windows = -(-room // stride) + 1
            return np.asarray(windows - ((windows - 1) * stride >= given + padding))

        return slid_lengths(self, lengths, count)
