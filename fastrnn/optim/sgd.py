"""Stochastic gradient descent."""

from __future__ import annotations

from fastrnn import ops
from fastrnn._checks import FloatArray, IntArray, finite_float, flag
from fastrnn.errors import ArgumentError
from fastrnn.optim.optimizer import Grouped, Optimizer, Options, Slots

__all__ = ["SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, as PyTorch defines it.

        g = grad + weight_decay * param
        buf = momentum * buf + (1 - dampening) * g              on the first step: buf = g
        g = g + momentum * buf if nesterov, else buf            without momentum: g stays
        param -= lr * g

    Rows of a sparse parameter that are not touched keep their momentum as it is.

    Parameters
    ----------
    params : Layer, mapping of names to Parameters, iterable of Parameters, or list of dicts (see `Optimizer`)
    lr : float
        Learning rate, also an attribute that may be set between steps.
    momentum, dampening, weight_decay : float
    nesterov : bool
        Needs momentum, and no dampening.

    Raises
    ------
    ArgumentError

    References
    ----------
    Sutskever et al. 2013, On the importance of initialization and momentum in deep learning.
    """

    OPTIONS = ("lr", "momentum", "dampening", "weight_decay", "nesterov")

    def __init__(
        self,
        params: Grouped,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(
            params, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=nesterov
        )

    def _checked(self, given: Options) -> Options:
        name = self._name
        options: Options = {key: finite_float(name, key, given[key], 0) for key in ("lr", "momentum", "weight_decay")}
        options["dampening"] = finite_float(name, "dampening", given["dampening"])
        options["nesterov"] = flag(name, "nesterov", given["nesterov"])
        if options["nesterov"] and (options["momentum"] == 0 or options["dampening"] != 0):
            raise ArgumentError(f"{name}: 'nesterov' must be False without momentum or with dampening, got True")
        return options

    def _kept(self, options: Options) -> tuple[str, ...]:
        return ("buf",) if options["momentum"] else ()

    def _update(
        self, values: FloatArray, grad: FloatArray, slots: Slots, step: int, options: Options, rows: IntArray | None
    ) -> None:
        ops.sgd_step(values, grad, slots.get("buf"), first=step == 1, rows=rows, **options)
