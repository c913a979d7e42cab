"""Limits of gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from fastrnn import ops
from fastrnn._checks import FloatArray, finite_float
from fastrnn.layers.arenas import Trained, named_parameters, runs
from fastrnn.layers.parameter import Parameter

__all__ = ["clip_grad_norm", "clip_grad_value"]


def _each(parameters: Iterable[Parameter], change: Callable[[FloatArray], object]) -> None:
    """Call `change` on all gradients there are, one array for several where they lie side by side.

    Of a sparse parameter it gets the touched rows.
    """
    for run in runs(parameter for parameter in parameters if parameter.has_grad):
        parameter, rows = run[0], run[0].rows
        if len(run) > 1:
            home = parameter._home
            change(home._sums(run))
        elif rows is None:
            change(parameter._sum())
        else:
            touched = parameter._sum()[rows]
            change(touched)
            parameter._sum()[rows] = touched


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
    parameters = named_parameters("clip_grad_norm", params).values()
    squares: list[float] = []
    _each(parameters, lambda grad: squares.append(ops.sum_of_squares(grad)))
    norm = math.sqrt(sum(squares))
    factor = max_norm / (norm + 1e-6)
    if not factor >= 1:
        _each(parameters, lambda grad: ops.scale_values(grad, factor))
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
    _each(named_parameters("clip_grad_value", params).values(), lambda grad: ops.clip_values(grad, clip_value))
