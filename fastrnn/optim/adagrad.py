"""Adagrad."""

from __future__ import annotations

from fastrnn import ops
from fastrnn._checks import FloatArray, IntArray, finite_float
from fastrnn.optim.optimizer import Grouped, Optimizer, Options, Slots

__all__ = ["Adagrad"]


class Adagrad(Optimizer):
    """Adagrad, as PyTorch defines it.

        g = grad + weight_decay * param
        total = total + g**2
        param -= lr / (1 + (step - 1) * lr_decay) * g / (sqrt(total) + eps)

    Without weight decay, rows of a sparse parameter that are not touched would stay as they are in any case.

    Parameters
    ----------
    params : Layer, mapping of names to Parameters, iterable of Parameters, or list of dicts (see `Optimizer`)
    lr : float
        Learning rate, also an attribute that may be set between steps.
    lr_decay, weight_decay : float
    initial_accumulator_value : float
        What `total` starts from.
    eps : float

    Raises
    ------
    ArgumentError

    References
    ----------
    Duchi, Hazan & Singer 2011, Adaptive subgradient methods for online learning and stochastic optimization.
    """

    OPTIONS = ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps")

    def __init__(
        self,
        params: Grouped,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
        )

    def _checked(self, given: Options) -> Options:
        return {key: finite_float(self._name, key, given[key], 0) for key in self.OPTIONS}

    def _kept(self, options: Options) -> tuple[str, ...]:
        return ("total",)

    def _start(self, slot: str, options: Options) -> float:
        start: float = options["initial_accumulator_value"]
        return start

    def _update(
        self, values: FloatArray, grad: FloatArray, slots: Slots, step: int, options: Options, rows: IntArray | None
    ) -> None:
        rate = options["lr"] / (1 + (step - 1) * options["lr_decay"])
        decay = options["weight_decay"]
        ops.adagrad_step(values, grad, slots["total"], lr=rate, eps=options["eps"], weight_decay=decay, rows=rows)
