"""What RNN, LSTM and GRU share: the way through their layers and directions, and the forms of their arguments.

A recurrent layer is `num_layers` layers of D directions. One layer in one direction is a cell; cells are numbered
``k = layer * D + direction``, which is also their place on the first axis of the states.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from fastrnn import ops
from fastrnn._checks import (
    FloatArray,
    IntArray,
    as_array,
    as_dtype,
    as_generator,
    as_lengths,
    check_shape,
    describe_shape,
    finite_float,
    flag,
    plain_int,
    positive_int,
)
from fastrnn.errors import ArgumentError, LengthsError, ShapeError
from fastrnn.init import RandomSource
from fastrnn.layers.cells import Initial, cells, initial_values
from fastrnn.layers.layer import Layer
from fastrnn.layers.recurrent_pullback import CellPullback, RecurrentPullback, Tape
from fastrnn.layers.stream import Stream
from fastrnn.ops._recurrent import run_packed_layers

__all__ = ["Recurrent"]

# The states of all cells: one array (D*num_layers, N, width) each for h and, in an LSTM, c.
States: TypeAlias = tuple[FloatArray, ...]
Run: TypeAlias = Callable[..., tuple[FloatArray, Any]]


class Recurrent(Layer):
    """Base class of RNN, LSTM and GRU, which only choose the operations."""

    takes_lengths = True
    returns_state = True

    #: Number of gates, the blocks of hidden_size rows in each weight.
    GATES: int
    proj_size = 0

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        *,
        proj_size: int = 0,
        dtype: DTypeLike,
        rng: RandomSource,
        bias_hh: bool,
        initial: Mapping[str, Any],
    ) -> None:
        name = self._name
        self.input_size = positive_int(name, "input_size", input_size)
        self.hidden_size = positive_int(name, "hidden_size", hidden_size)
        self.num_layers = positive_int(name, "num_layers", num_layers)
        self.bias = flag(name, "bias", bias)
        self.bias_hh = flag(name, "bias_hh", bias_hh)
        self.batch_first = flag(name, "batch_first", batch_first)
        self.dropout = finite_float(name, "dropout", dropout, 0, 1)
        self.bidirectional = flag(name, "bidirectional", bidirectional)
        self.proj_size = plain_int(name, "proj_size", proj_size, 0)
        if self.proj_size >= self.hidden_size:
            raise ArgumentError(f"{name}: 'proj_size' must be below hidden_size={hidden_size}, got {proj_size}")
        self.dtype = as_dtype(name, dtype)
        self._rng = as_generator(name, rng)
        self._cells = tuple(
            cells(
                self.num_layers,
                self._directions,
                biases=self.bias + (self.bias and self.bias_hh),
                projected=self.proj_size > 0,
            )
        )
        self._alone = len(self._cells) == 1 and not self.batch_first
        source = Initial.find(name, self.hidden_size, **initial)
        for k, cell in enumerate(self._cells):
            C = self.input_size if k < self._directions else self._directions * self._width
            sizes = (self.GATES, C, self.hidden_size, self._width)
            for key, value in initial_values(name, cell.names, sizes, source, self.dtype, self._rng):
                self._own(key + cell.suffix, value)

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def _width(self) -> int:
        """Width of h, and of the output in one direction."""
        return self.proj_size or self.hidden_size

    def _packed(self, k: int, training: bool) -> Any:
        """Return the packed weights of a cell, never older than its parameters."""
        cell = self._cells[k]
        current = cell.cache.current(training)
        return cell.cache.get(cell.parameters(self._parameters), self._pack, training) if current is None else current

    # What RNN, LSTM and GRU fill in

    def _pack(self, params: dict[str, FloatArray], training: bool) -> object:
        """Pack the weights of a cell."""
        raise NotImplementedError

    def _run_forward(self, x: FloatArray, params: object, state: Any, **options: Any) -> tuple[FloatArray, Any]:
        """Call the operation for inference."""
        raise NotImplementedError

    def _run_vjp(
        self, x: FloatArray, params: object, state: Any, **options: Any
    ) -> tuple[tuple[FloatArray, Any], CellPullback]:
        """Call the operation for training."""
        raise NotImplementedError

    def _open_stream(self, packs: Sequence[object], batch_size: int) -> Any:
        """Call the operation for streaming."""
        raise NotImplementedError

    def _join(self, parts: Sequence[Any]) -> Any:
        """Return the parts of a state as the user and `ops` have them."""
        return parts[0]

    def _split(self, arg: str, state: Any) -> tuple[tuple[str, Any, str, int], ...]:
        """Return (argument, value, letter of the width, width) for each part of a state."""
        return ((arg, state, "H", self.hidden_size),)

    # Calls

    def __call__(self, x: FloatArray, state: Any = None, *, lengths: Any = None) -> tuple[FloatArray, Any]:
        """Run the layer over a sequence: inference, which records nothing and applies no dropout.

        Parameters
        ----------
        x : ndarray (T, N, C), with `batch_first` (N, T, C), or without a batch (T, C)
        state : ndarray (D*num_layers, N, H), or (D*num_layers, H) without a batch; for LSTM a pair (h, c) of such
            arrays, h with P instead of H if projected. Zeros if None.
        lengths : int array (N,), optional
            Number of valid steps of each sequence, in any order, each in 1..T. y is zero past them, the final states
            are those at each length, and the reverse direction starts at each sequence's own end.

        Returns
        -------
        y : ndarray like x, with D*H or D*P features
        state : final states, new arrays like `state`

        Raises
        ------
        ShapeError, DTypeError, LengthsError, ArgumentError
        """
        if state is None:
            packs = [self._packed(k, False) for k in range(len(self._cells))]
            plain = run_packed_layers(packs, self._directions, x, lengths, self.batch_first)
            if plain:
                return plain[0], self._join(plain[1])

        def run(k: int, x: FloatArray, state: Any, **options: Any) -> tuple[FloatArray, Any]:
            return self._run_forward(x, self._packed(k, False), state, **options)

        x, states, valid, batched = self._inputs(x, state, lengths)
        y, final = self._through(run, x, states, valid)
        return self._user_layout(y, batched), self._user_states(final, batched)

    def forward(
        self, x: FloatArray, state: Any = None, *, lengths: Any = None
    ) -> tuple[tuple[FloatArray, Any], RecurrentPullback]:
        """Run the layer for training: dropout between layers, and a pullback.

        Takes what a call takes.

        Returns
        -------
        (y, state) : as from a call
        backward : ``backward(dy=None, dstate=None) -> (dx, dstate)``
            Adds to the gradients of the parameters. dy is like y and dstate like the final states (for LSTM a pair,
            each part may be None); None stands for zeros. Returns the gradients of x and of the initial states. May be
            called once, in any order with others.

        Raises
        ------
        ShapeError, DTypeError, LengthsError, ArgumentError
        """
        tape = Tape([], [cell.parameters(self._parameters) for cell in self._cells], [])

        def run(k: int, x: FloatArray, state: Any, **options: Any) -> tuple[FloatArray, Any]:
            result, pull = self._run_vjp(x, self._packed(k, True), state, **options)
            tape.pulls.append(pull)
            return result

        def drop(y: FloatArray) -> FloatArray:
            tape.masks.append(self._dropout_mask(y.shape))
            return y * tape.masks[-1]

        x, states, valid, batched = self._inputs(x, state, lengths)
        y, final = self._through(run, x, states, valid, drop if self.dropout else None)
        y = self._user_layout(y, batched)
        return (y, self._user_states(final, batched)), RecurrentPullback(self, tape, y.shape)

    def stream(self, batch_size: int = 1) -> Stream:
        """Return an object that runs the layer step by step and keeps its state.

        ``stream.step(x_t)`` takes (N, C), or (C,) if `batch_size` is 1, and returns a view of h_t of the same form,
        valid until the next step. The stream holds the weights as they are now: later changes do not reach it.

        Raises
        ------
        ArgumentError
            The layer is bidirectional: its reverse direction would need the future.
        """
        batch_size = positive_int(self._name, "batch_size", batch_size)
        if self.bidirectional:
            raise ArgumentError(f"{self._name}: stream() must have bidirectional=False: the reverse needs the future")
        packs = [self._packed(k, False) for k in range(self.num_layers)]
        return Stream(self._open_stream(packs, batch_size), batch_size, self._stream_state)

    def _through(
        self,
        run: Run,
        x: FloatArray,
        states: States | None,
        lengths: IntArray | None,
        between: Callable[[FloatArray], FloatArray] | None = None,
    ) -> tuple[FloatArray, States]:
        """Run all cells on x (T, N, C); return the output (T, N, D*H) and the final states."""
        if self._alone:  # without the bookkeeping of several cells, which small calls would feel
            y, final = run(0, x, None if states is None else self._join([part[0] for part in states]), lengths=lengths)
            return y, self._stack([final])
        D, W = self._directions, self._width
        T, N, _ = x.shape
        finals = []
        for layer in range(self.num_layers):
            if layer and between:
                x = between(x)
            last = layer == self.num_layers - 1
            both = self._output(T, N) if D == 2 or (last and self.batch_first) else None
            y = x
            for d in range(D):
                k = layer * D + d
                out = both if both is None or D == 1 else both[:, :, d * W : (d + 1) * W]
                state = None if states is None else self._join([part[k] for part in states])
                options: Any = {"lengths": lengths, "out": out, "reverse": d == 1}
                y, final = run(k, x, state, **options)
                finals.append(final)
            x = y if both is None else both
        return x, self._stack(finals)

    def _output(self, T: int, N: int) -> FloatArray:
        """Return an empty (T, N, D*H) array whose memory is in the user's order."""
        width = self._directions * self._width
        array: FloatArray = ops.empty((N, T, width) if self.batch_first else (T, N, width), self.dtype)
        return self._time_first(array, batched=True)

    def _stack(self, finals: Sequence[Any]) -> States:
        """Return the states of all cells as one array for each part."""
        pair = isinstance(finals[0], tuple)
        if len(finals) == 1:
            return tuple([part[None] for part in finals[0]]) if pair else (finals[0][None],)
        return tuple(np.array(part) for part in zip(*finals, strict=True)) if pair else (np.array(finals),)

    def _dropout_mask(self, shape: tuple[int, ...]) -> FloatArray:
        """Return 0 with probability `dropout`, else 1 / (1 - dropout), for each element."""
        kept = self._rng.random(shape, np.float32) >= self.dropout
        scale = 1 / (1 - self.dropout) if self.dropout < 1 else 0.0
        return np.multiply(kept, scale, dtype=self.dtype)

    # Inputs and layouts

    def _inputs(
        self, x: object, state: object, lengths: object
    ) -> tuple[FloatArray, States | None, IntArray | None, bool]:
        """Check the arguments of a call; return x as (T, N, C), the states, the lengths, and whether x is a batch."""
        array, name, C = as_array(self._name, "x", x, self.dtype), self._name, self.input_size
        batched = array.ndim == 3
        if array.ndim not in (2, 3) or array.shape[-1] != C:
            batch = describe_shape("(N, T, C)" if self.batch_first else "(T, N, C)", C=C)
            single = describe_shape("(T, C)", C=C)
            expected = batch if batched else single if array.ndim == 2 else f"{batch} or {single}"
            raise ShapeError(f"{name}: 'x' must have shape {expected}, got {array.shape}")
        array = self._time_first(array, batched)
        T, N, _ = array.shape
        states = None if state is None else self._states("state", state, N, batched)
        if lengths is None:
            return array, states, None, batched
        if not batched:
            raise LengthsError(f"{name}: 'lengths' must be None for an x of shape (T, C), got {lengths!r}")
        return array, states, as_lengths(name, lengths, N, T), batched

    def _time_first(self, array: FloatArray, batched: bool) -> FloatArray:
        """Return the user's sequence as (T, N, features)."""
        if not batched:
            return array[:, None]
        return array.swapaxes(0, 1) if self.batch_first else array

    def _user_layout(self, array: FloatArray, batched: bool) -> FloatArray:
        """Undo `_time_first`."""
        if not batched:
            return array[:, 0]
        return array.swapaxes(0, 1) if self.batch_first else array

    def _user_states(self, states: States, batched: bool) -> Any:
        return self._join(states if batched else [part[:, 0] for part in states])

    def _states(self, arg: str, state: object, N: int, batched: bool) -> Any:
        """Check a state; return its parts as (D*num_layers, N, width). Parts of a `dstate` may be None."""
        name, K = self._name, len(self._cells)
        parts: list[FloatArray | None] = []
        for part, value, letter, width in self._split(arg, state):
            if value is None and arg == "dstate":
                parts.append(None)
                continue
            array = as_array(name, part, value, self.dtype)
            if array.shape != ((K, N, width) if batched else (K, width)):
                spec = f"(D*num_layers, {'N, ' * batched}{letter})"
                check_shape(name, part, array, spec, **{"D*num_layers": K, "N": N, letter: width})
            parts.append(array if batched else array[:, None])
        return tuple(parts)

    def _stream_state(self, state: object, batch_size: int, batched: bool) -> Any:
        """Check a state for a stream; return it as ops take it."""
        return self._join(self._states("state", state, batch_size, batched))

    def multiply_adds(self, x_shape: tuple[int, ...], y_shape: tuple[int, ...]) -> int:
        """Return those of all weights at each step; biases and the products of gates do not count."""
        weights = [parameter for name, parameter in self._parameters.items() if name.startswith("weight")]
        return math.prod(x_shape[:-1]) * sum(parameter.size for parameter in weights)

    # Building again

    def config(self) -> dict[str, Any]:
        """Return the options of the layer, without how its weights were initialised."""
        sizes = {"input_size": self.input_size, "hidden_size": self.hidden_size}
        return {**super().config(), **sizes, **dict(self._option_values())}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Layer:
        """Build a layer with zero weights from what `config` returned."""
        options = {name: value for name, value in config.items() if name != "type"}
        build: Callable[..., Layer] = cls
        return build(**options, weight_init="zeros", recurrent_init="zeros")

    def _option_values(self) -> Iterator[tuple[str, Any]]:
        """Yield the names and values of all options after the sizes."""
        yield "num_layers", self.num_layers
        yield "bias", self.bias
        yield "batch_first", self.batch_first
        yield "dropout", self.dropout
        yield "bidirectional", self.bidirectional
        yield "bias_hh", self.bias_hh
        yield "dtype", self.dtype.name

    def _options(self) -> str:
        usual = {"num_layers": 1, "bias": True, "bias_hh": True, "dtype": "float32", "proj_size": 0}
        usual |= {"nonlinearity": "tanh", "reset_after": True, "dropout": 0.0}
        given = [f"{name}={value!r}" for name, value in self._option_values() if value != usual.get(name, False)]
        return ", ".join([str(self.input_size), str(self.hidden_size), *given])
