"""RMSprop."""

from __future__ import annotations

from fastrnn import ops
from fastrnn._checks import FloatArray, IntArray, finite_float, flag
from fastrnn.optim.optimizer import Grouped, Optimizer, Options, Slots

__all__ = ["RMSprop"]


class RMSprop(Optimizer):
    """RMSprop, as PyTorch defines it.

        g = grad + weight_decay * param
        square = alpha * square + (1 - alpha) * g**2
        mean = alpha * mean + (1 - alpha) * g                   if centered, else mean = 0
        buf = momentum * buf + g / (sqrt(square - mean**2) + eps)
        param -= lr * buf

    Parameters
    ----------
    params : Layer, mapping of names to Parameters, iterable of Parameters, or list of dicts (see `Optimizer`)
    lr : float
        Learning rate, also an attribute that may be set between steps.
    alpha, eps, weight_decay, momentum : float
    centered : bool

    Raises
    ------
    ArgumentError

    References
    ----------
    Tieleman & Hinton 2012, Lecture 6.5: rmsprop; Graves 2013, Generating sequences with recurrent neural networks, (38)-(45).
    """

    OPTIONS = ("lr", "alpha", "eps", "weight_decay", "momentum", "centered")

    def __init__(
        self,
        params: Grouped,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
            centered=centered,
        )

    def _checked(self, given: Options) -> Options:
        numbers = ("lr", "eps", "weight_decay", "momentum")
        options: Options = {key: finite_float(self._name, key, given[key], 0) for key in numbers}
        options["alpha"] = finite_float(self._name, "alpha", given["alpha"], 0, 1)
        options["centered"] = flag(self._name, "centered", given["centered"])
        return options

    def _kept(self, options: Options) -> tuple[str, ...]:
        return ("square", *(["mean"] if options["centered"] else []), *(["buf"] if options["momentum"] else []))

    def _update(
        self, values: FloatArray, grad: FloatArray, slots: Slots, step: int, options: Options, rows: IntArray | None
    ) -> None:
        numbers = {key: value for key, value in options.items() if key != "centered"}
        ops.rmsprop_step(values, grad, slots["square"], slots.get("mean"), slots.get("buf"), rows=rows, **numbers)
