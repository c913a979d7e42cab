"""The pullback of a recurrent layer: backward through its cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from fastrnn._checks import FloatArray, as_fitting
from fastrnn.layers.parameter import Parameter, adding_to
from fastrnn.layers.pullback import Once

if TYPE_CHECKING:
    from fastrnn.layers.recurrent import Recurrent

__all__ = ["CellPullback", "RecurrentPullback", "Tape"]

CellPullback: TypeAlias = Callable[..., tuple[FloatArray, Any, Any]]


class Tape(NamedTuple):
    """What a forward pass leaves: per cell its pullback and parameters, and per layer above the first its mask."""

    pulls: list[CellPullback]
    parameters: list[dict[str, Parameter]]
    masks: list[FloatArray]


class RecurrentPullback:
    """Maps the gradients of a recurrent layer's results to those of its inputs; adds to its parameters' gradients.

    ``backward(dy=None, dstate=None) -> (dx, dstate)``, see `Recurrent.forward`.
    """

    __slots__ = ("_layer", "_once", "_shape")

    def __init__(self, layer: Recurrent, tape: Tape, shape: tuple[int, ...]) -> None:
        self._layer = layer
        self._once = Once(layer._name, tape)
        self._shape = shape  # of y, as the user has it

    def __call__(self, dy: FloatArray | None = None, dstate: Any = None) -> tuple[FloatArray, Any]:
        """Go backward through the layer.

        Parameters
        ----------
        dy : ndarray like y, optional. Zeros if None.
        dstate : like the final states, optional. Zeros if None; each part of an LSTM's pair may be None.

        Returns
        -------
        dx : ndarray like x
        dstate : gradients of the initial states, like the states

        Raises
        ------
        ShapeError, DTypeError
            Unfit gradients. Nothing was added, and the pullback may still be called.
        RuntimeError
            It was called before.
        """
        layer = self._layer
        self._once.require()
        batched = len(self._shape) == 3
        if dy is not None:
            dy = layer._time_first(as_fitting(layer._name, "dy", dy, self._shape, layer.dtype), batched)
        if dstate is not None:
            N = self._shape[0 if layer.batch_first else 1] if batched else 1
            dstate = layer._states("dstate", dstate, N, batched)
        tape = self._once.take()
        with adding_to([parameter for cell in tape.parameters for parameter in cell.values()]):
            dx, finals = self._through(tape, dy, dstate)
        return layer._user_layout(dx, batched), layer._user_states(layer._stack(finals), batched)

    def _through(self, tape: Tape, dy: FloatArray | None, dstate: Any) -> tuple[FloatArray, list[Any]]:
        """Run the pullbacks of all cells, the last first; return dx (T, N, C) and the cells' initial gradients.

        They leave the tape as they are called, which frees what each has saved.
        """
        layer, W = self._layer, self._layer._width
        directions = layer._directions
        finals: list[Any] = []
        while True:
            total: FloatArray | None = None
            for d in reversed(range(directions)):
                pull = tape.pulls.pop()
                k = len(tape.pulls)
                part = None if dy is None else dy[:, :, d * W : (d + 1) * W]
                state = None if dstate is None else layer._join([None if s is None else s[k] for s in dstate])
                grads = {name: parameter.grad for name, parameter in tape.parameters[k].items()}
                dx, final, _ = pull(part, state, grads=grads)
                finals.insert(0, final)
                if total is None:
                    total = dx
                else:
                    total += dx
            assert total is not None
            if not tape.pulls:
                return total, finals
            dy = total * tape.masks.pop() if tape.masks else total
