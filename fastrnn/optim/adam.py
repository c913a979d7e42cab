"""Adam and its relatives."""

from __future__ import annotations

import math

from fastrnn import ops
from fastrnn._checks import FloatArray, IntArray, finite_float, flag
from fastrnn.errors import ArgumentError
from fastrnn.optim.optimizer import Grouped, Optimizer, Options, Slots

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Adam, as PyTorch defines it.

        g = grad + weight_decay * param
        m = beta1 * m + (1 - beta1) * g                         v = beta2 * v + (1 - beta2) * g**2
        param -= lr * (m / (1 - beta1**step)) / (sqrt(v / (1 - beta2**step)) + eps)

    Of a sparse parameter, rows that are not touched keep weights, m and v as they are, and `step` counts all steps, as
    in PyTorch's SparseAdam (which adds eps to the root of v before its correction).

    Parameters
    ----------
    params : Layer, mapping of names to Parameters, iterable of Parameters, or list of dicts (see `Optimizer`)
    lr : float
        Learning rate, also an attribute that may be set between steps.
    betas : (float, float)
        Each in [0, 1).
    eps, weight_decay : float
    amsgrad : bool
        Whether the largest v so far takes the place of v in the last line.

    Raises
    ------
    ArgumentError

    References
    ----------
    Kingma & Ba 2015, Adam: a method for stochastic optimization, algorithm 1; Reddi, Kale & Kumar 2018, On the
    convergence of Adam and beyond, algorithm 2.
    """

    OPTIONS = ("lr", "beta1", "beta2", "eps", "weight_decay", "amsgrad")
    _DECOUPLED = False

    def __init__(
        self,
        params: Grouped,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad)

    def _checked(self, given: Options) -> Options:
        name, betas = self._name, given["betas"]
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise ArgumentError(f"{name}: 'betas' must be a pair of numbers, got {betas!r}")
        below_one = math.nextafter(1, 0)
        return {
            "lr": finite_float(name, "lr", given["lr"], 0),
            "beta1": finite_float(name, "betas[0]", betas[0], 0, below_one),
            "beta2": finite_float(name, "betas[1]", betas[1], 0, below_one),
            "eps": finite_float(name, "eps", given["eps"], 0),
            "weight_decay": finite_float(name, "weight_decay", given["weight_decay"], 0),
            "amsgrad": flag(name, "amsgrad", given["amsgrad"]),
        }

    def _kept(self, options: Options) -> tuple[str, ...]:
        return ("m", "v", "most") if options["amsgrad"] else ("m", "v")

    def _update(
        self, values: FloatArray, grad: FloatArray, slots: Slots, step: int, options: Options, rows: IntArray | None
    ) -> None:
        numbers = {key: value for key, value in options.items() if key != "amsgrad"}
        m, v, most = slots["m"], slots["v"], slots.get("most")
        ops.adam_step(values, grad, m, v, most, step=step, decoupled=self._DECOUPLED, rows=rows, **numbers)


class AdamW(Adam):
    """Adam with decoupled weight decay, as PyTorch defines it.

        param *= 1 - lr * weight_decay
        m = beta1 * m + (1 - beta1) * grad                      v = beta2 * v + (1 - beta2) * grad**2
        param -= lr * (m / (1 - beta1**step)) / (sqrt(v / (1 - beta2**step)) + eps)

    Of a sparse parameter only the touched rows decay; for the rest see `Adam`.

    Parameters
    ----------
    params : Layer, mapping of names to Parameters, iterable of Parameters, or list of dicts (see `Optimizer`)
    lr : float
        Learning rate, also an attribute that may be set between steps.
    betas : (float, float)
        Each in [0, 1).
    eps, weight_decay : float
    amsgrad : bool
        Whether the largest v so far takes the place of v in the last line.

    Raises
    ------
    ArgumentError

    References
    ----------
    Loshchilov & Hutter 2019, Decoupled weight decay regularization, algorithm 2.
    """

    _DECOUPLED = True

    def __init__(
        self,
        params: Grouped,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad)
