"""Optimizers and gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from fastrnn import ops
from fastrnn._checks import FloatArray, finite_float, flag
from fastrnn.errors import ArgumentError, StateDictError
from fastrnn.layers.layer import Layer
from fastrnn.layers.parameter import Parameter

__all__ = ["SGD", "Adam", "Optimizer", "clip_grad_norm", "clip_grad_value"]

Trained: TypeAlias = "Layer | Mapping[str, Parameter] | Iterable[Parameter]"


def _named(name: str, params: Trained) -> dict[str, Parameter]:
    """Return the parameters meant by `params` by name, each once; those of a plain iterable are named by number."""
    if isinstance(params, Layer):
        return params.parameters()
    if isinstance(params, Parameter) or not isinstance(params, Iterable):
        kind = type(params).__name__
        raise ArgumentError(f"{name}: 'params' must be a layer, or several parameters, got {kind}")
    pairs = params.items() if isinstance(params, Mapping) else ((str(i), p) for i, p in enumerate(params))
    first_names: dict[Parameter, str] = {}
    for key, parameter in pairs:
        if not isinstance(parameter, Parameter):
            raise ArgumentError(f"{name}: 'params' must hold Parameters, got {type(parameter).__name__}")
        first_names.setdefault(parameter, key)
    return {key: parameter for parameter, key in first_names.items()}


class Optimizer:
    """Base class: which parameters, which options, and the arrays kept for each parameter between steps.

    A parameter that never had a gradient is left alone.
    """

    #: Options that are numbers or flags and are part of the state.
    OPTIONS: tuple[str, ...] = ()

    def __init__(self, params: Trained, lr: float) -> None:
        self.params = _named(self._name, params)
        self.lr = lr
        self._slots: dict[str, dict[str, FloatArray]] = {}
        self._steps: dict[str, int] = {}

    @property
    def _name(self) -> str:
        return type(self).__name__

    @property
    def lr(self) -> float:
        """Learning rate; may be set between steps."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = finite_float(self._name, "lr", value, 0)

    def step(self) -> None:
        """Update every parameter from its gradient, in place."""
        for name, parameter in self.params.items():
            if not parameter.has_grad:
                continue
            slots = self._slots.get(name)
            if slots is None:
                kept = self._kept({option: getattr(self, option) for option in self.OPTIONS})
                slots = self._slots[name] = {slot: np.zeros(parameter.shape, parameter.dtype) for slot in kept}
            self._steps[name] = self._steps.get(name, 0) + 1
            with parameter.edit() as values:
                self._update(values, parameter.grad, slots, self._steps[name])

    def _kept(self, options: Mapping[str, float]) -> tuple[str, ...]:
        """Return the names of the arrays that an optimizer with these options keeps for each parameter."""
        raise NotImplementedError

    def _update(self, values: FloatArray, grad: FloatArray, slots: dict[str, FloatArray], step: int) -> None:
        """Update one parameter; `step` is 1 at its first."""
        raise NotImplementedError

    def zero_grad(self) -> None:
        """Set the gradients of all parameters to zero."""
        for parameter in self.params.values():
            parameter.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """Return options, step counts and copies of the kept arrays: "lr", "step.0.weight", "m.0.weight"..."""
        state: dict[str, Any] = {option: getattr(self, option) for option in self.OPTIONS}
        for name, slots in self._slots.items():
            state[f"step.{name}"] = self._steps[name]
            state.update({f"{slot}.{name}": array.copy() for slot, array in slots.items()})
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned; numbers may come back as 0-d arrays, as from `numpy.load`.

        Raises
        ------
        StateDictError
            Lists all missing, unexpected and unfit entries at once; nothing has changed.
        """
        if not isinstance(state_dict, Mapping):
            kind = type(state_dict).__name__
            raise ArgumentError(f"{self._name}: 'state_dict' must be a mapping, got {kind}")
        left = dict(state_dict)
        problems: list[str] = []

        options = {option: _number(option, left, problems) for option in self.OPTIONS}
        started = [name for name in self.params if f"step.{name}" in left]
        steps = {name: int(_number(f"step.{name}", left, problems)) for name in started}
        kept = self._kept(options)
        slots = {name: {slot: self._slot(slot, name, left, problems) for slot in kept} for name in started}
        problems += [f"unexpected: {', '.join(map(str, left))}"] if left else []
        if problems:
            raise StateDictError(f"{self._name}: the state dict does not fit\n  " + "\n  ".join(problems))
        for option, value in options.items():
            setattr(self, option, value)
        self._steps, self._slots = steps, slots

    def _slot(self, slot: str, name: str, left: dict[str, Any], problems: list[str]) -> FloatArray:
        """Take the array `slot` of a parameter out of `left`; add to `problems` what is wrong with it."""
        parameter, key = self.params[name], f"{slot}.{name}"
        if key not in left:
            problems.append(f"missing: {key}")
            return parameter.data
        value = left.pop(key)
        array = np.asarray(value) if isinstance(value, np.ndarray) or hasattr(value, "__array__") else None
        if array is None or array.shape != parameter.shape or array.dtype != parameter.dtype:
            got = type(value).__name__ if array is None else f"{array.shape} {array.dtype}"
            problems.append(f"'{key}' must be {parameter.shape} {parameter.dtype}, got {got}")
            return parameter.data
        return np.array(array, order="C")

    def __repr__(self) -> str:
        options = ", ".join(f"{option}={getattr(self, option)!r}" for option in self.OPTIONS)
        return f"{self._name}({len(self.params)} parameters, {options})"


def _number(key: str, left: dict[str, Any], problems: list[str]) -> float:
    """Take a number out of `left`; add to `problems` if there is none."""
    if key not in left:
        problems.append(f"missing: {key}")
        return 0.0
    value = left.pop(key)
    plain = value.item() if getattr(value, "size", None) == 1 and hasattr(value, "item") else value
    if isinstance(plain, (bool, int, float)) and math.isfinite(plain):
        return plain
    problems.append(f"'{key}' must be a finite number, got {value!r}")
    return 0.0


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, as PyTorch defines it.

        g = grad + weight_decay * param
        buf = momentum * buf + (1 - dampening) * g              on the first step: buf = g
        g = g + momentum * buf if nesterov, else buf            without momentum: g stays
        param -= lr * g

    Parameters
    ----------
    params : Layer, mapping of names to Parameters, or iterable of Parameters
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
        params: Trained,
        lr: float,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        self.momentum = finite_float(self._name, "momentum", momentum, 0)
        self.dampening = finite_float(self._name, "dampening", dampening)
        self.weight_decay = finite_float(self._name, "weight_decay", weight_decay, 0)
        self.nesterov = flag(self._name, "nesterov", nesterov)
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ArgumentError(f"{self._name}: 'nesterov' must be False without momentum or with dampening, got True")
        super().__init__(params, lr)

    def _kept(self, options: Mapping[str, float]) -> tuple[str, ...]:
        return ("buf",) if options["momentum"] else ()

    def _update(self, values: FloatArray, grad: FloatArray, slots: dict[str, FloatArray], step: int) -> None:
        ops.sgd_step(
            values,
            grad,
            slots.get("buf"),
            lr=self.lr,
            momentum=self.momentum,
            dampening=self.dampening,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            first=step == 1,
        )


class Adam(Optimizer):
    """Adam, as PyTorch defines it.

        g = grad + weight_decay * param
        m = beta1 * m + (1 - beta1) * g                         v = beta2 * v + (1 - beta2) * g**2
        param -= lr * (m / (1 - beta1**step)) / (sqrt(v / (1 - beta2**step)) + eps)

    Parameters
    ----------
    params : Layer, mapping of names to Parameters, or iterable of Parameters
    lr : float
        Learning rate, also an attribute that may be set between steps.
    betas : (float, float)
        Each in [0, 1).
    eps, weight_decay : float

    Raises
    ------
    ArgumentError

    References
    ----------
    Kingma & Ba 2015, Adam: a method for stochastic optimization, algorithm 1.
    """

    OPTIONS = ("lr", "beta1", "beta2", "eps", "weight_decay")

    def __init__(
        self,
        params: Trained,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise ArgumentError(f"{self._name}: 'betas' must be a pair of numbers, got {betas!r}")
        below_one = math.nextafter(1, 0)
        self.beta1 = finite_float(self._name, "betas[0]", betas[0], 0, below_one)
        self.beta2 = finite_float(self._name, "betas[1]", betas[1], 0, below_one)
        self.eps = finite_float(self._name, "eps", eps, 0)
        self.weight_decay = finite_float(self._name, "weight_decay", weight_decay, 0)
        super().__init__(params, lr)

    def _kept(self, options: Mapping[str, float]) -> tuple[str, ...]:
        return ("m", "v")

    def _update(self, values: FloatArray, grad: FloatArray, slots: dict[str, FloatArray], step: int) -> None:
        ops.adam_step(
            values,
            grad,
            slots["m"],
            slots["v"],
            step=step,
            lr=self.lr,
            beta1=self.beta1,
            beta2=self.beta2,
            eps=self.eps,
            weight_decay=self.weight_decay,
        )


def clip_grad_norm(params: Trained, max_norm: float) -> float:
    """Scale all gradients so that their common norm is at most `max_norm`; return the norm they had.

        norm = sqrt(sum of grad**2 over all parameters)         grad *= min(1, max_norm / (norm + 1e-6))

    as PyTorch does. A norm that is not finite is returned as it is: if NaN, all gradients become NaN; if infinite,
    finite gradients become 0 and infinite ones NaN.

    Parameters
    ----------
    params : Layer, mapping of names to Parameters, or iterable of Parameters
    max_norm : float

    Raises
    ------
    ArgumentError

    References
    ----------
    Pascanu, Mikolov & Bengio 2013, On the difficulty of training recurrent neural networks, algorithm 1.
    """
    max_norm = finite_float("clip_grad_norm", "max_norm", max_norm, 0)
    grads = [p.grad for p in _named("clip_grad_norm", params).values() if p.has_grad]
    with np.errstate(all="ignore"):
        norm = math.sqrt(sum(map(_sum_of_squares, grads)))
        factor = max_norm / (norm + 1e-6)
        if not factor >= 1:
            for grad in grads:
                np.multiply(grad, factor, out=grad)
    return norm


def clip_grad_value(params: Trained, clip_value: float) -> None:
    """Limit every element of every gradient to [-clip_value, clip_value]; NaN stays.

    Parameters
    ----------
    params : Layer, mapping of names to Parameters, or iterable of Parameters
    clip_value : float

    Raises
    ------
    ArgumentError
    """
    clip_value = finite_float("clip_grad_value", "clip_value", clip_value, 0)
    for parameter in _named("clip_grad_value", params).values():
        if parameter.has_grad:
            np.clip(parameter.grad, -clip_value, clip_value, out=parameter.grad)


def _sum_of_squares(grad: FloatArray) -> float:
    """Return the sum of squares, in float64 over rows of 1024 elements that are summed in the array's dtype."""
    flat = grad.reshape(-1)
    whole = flat.size // 1024 * 1024
    rows = flat[:whole].reshape(-1, 1024)
    total = float(np.einsum("ij,ij->i", rows, rows).sum(dtype=np.float64))
    total += float(np.einsum("i,i->", flat[whole:], flat[whole:]))
    if math.isinf(total) and grad.dtype == np.float32:  # float32 squares overflow from 1.8e19 on
        return float(np.square(flat, dtype=np.float64).sum())
    return total
