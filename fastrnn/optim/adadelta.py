"""Adadelta."""

from __future__ import annotations

from fastrnn import ops
from fastrnn._checks import FloatArray, IntArray, finite_float
from fastrnn.optim.optimizer import Grouped, Optimizer, Options, Slots

__all__ = ["Adadelta"]


class Adadelta(Optimizer):
    """Adadelta, as PyTorch defines it.

        g = grad + weight_decay * param
        square = rho * square + (1 - rho) * g**2                d = sqrt(moved + eps) / sqrt(square + eps) * g
        moved = rho * moved + (1 - rho) * d**2                  param -= lr * d

    Parameters
    ----------
    params : Layer, mapping of names to Parameters, iterable of Parameters, or list of dicts (see `Optimizer`)
    lr : float
        Learning rate, also an attribute that may be set between steps.
    rho, eps, weight_decay : float

    Raises
    ------
    ArgumentError

    References
    ----------
    Zeiler 2012, ADADELTA: an adaptive learning rate method, algorithm 1.
    """

    OPTIONS = ("lr", "rho", "eps", "weight_decay")

    def __init__(
        self, params: Grouped, lr: float = 1.0, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, lr=lr, rho=rho, eps=eps, weight_decay=weight_decay)

    def _checked(self, given: Options) -> Options:
        options: Options = {key: finite_float(self._name, key, given[key], 0) for key in ("lr", "eps", "weight_decay")}
        options["rho"] = finite_float(self._name, "rho", given["rho"], 0, 1)
        return options

    def _kept(self, options: Options) -> tuple[str, ...]:
        return ("square", "moved")

    def _update(
        self, values: FloatArray, grad: FloatArray, slots: Slots, step: int, options: Options, rows: IntArray | None
    ) -> None:
        ops.adadelta_step(values, grad, slots["square"], slots["moved"], rows=rows, **options)
