"""Schedules of learning rates.

A schedule takes an optimizer, sets the learning rate of its first step at once, and that of each next one when its
`step` is called: after every epoch or after every update, as its numbers are meant.

    schedule = fr.CosineAnnealingLR(optimizer, T_max=100)
    for epoch in range(100):
        train()
        schedule.step()

`state_dict` and `load_state_dict` belong into a checkpoint beside those of the optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastrnn._checks import choice, finite_float, flag, plain_int, positive_int
from fastrnn.errors import ArgumentError, StateDictError
from fastrnn.optim.optimizer import Optimizer

__all__ = [
    "CosineAnnealingLR",
    "ExponentialLR",
    "LambdaLR",
    "LinearWarmup",
    "MultiStepLR",
    "OneCycleLR",
    "ReduceLROnPlateau",
    "Schedule",
    "StepLR",
    "WarmupCosine",
]


class Schedule:
    """Base class: the learning rate of each group of an optimizer as a function of the number of steps made.

    Subclasses define `_rate`.

    Parameters
    ----------
    optimizer : Optimizer
        Its learning rates are the base rates.

    Raises
    ------
    ArgumentError
    """

    #: What `state_dict` holds beside the step count and base rates.
    STATE: tuple[str, ...] = ()

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise ArgumentError(f"{self._name}: 'optimizer' must be an Optimizer, got {type(optimizer).__name__}")
        self.optimizer = optimizer
        self.base_lrs: list[float] = [group.options["lr"] for group in optimizer.groups]
        self.steps = 0
        self._apply()

    @property
    def _name(self) -> str:
        return type(self).__name__

    def step(self) -> None:
        """Set the learning rate of the next step."""
        self.steps += 1
        self._apply()

    @property
    def last_lr(self) -> list[float]:
        """The learning rate of each group now."""
        return [group.options["lr"] for group in self.optimizer.groups]

    def _apply(self) -> None:
        for index, group in enumerate(self.optimizer.groups):
            group.options["lr"] = self._rate(self.steps, self.base_lrs[index], index)

    def _rate(self, t: int, base: float, group: int) -> float:
        """Return the learning rate of a group after t steps of the schedule."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Return step count, base rates, and what else the schedule remembers."""
        return {"steps": self.steps, "base_lrs": list(self.base_lrs), **{key: getattr(self, key) for key in self.STATE}}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, and set the learning rates of that point.

        Raises
        ------
        StateDictError
            Names are missing or unexpected, or there are other groups; nothing has changed.
        """
        wanted = {"steps", "base_lrs", *self.STATE}
        if not isinstance(state_dict, Mapping) or set(state_dict) != wanted:
            got = sorted(state_dict) if isinstance(state_dict, Mapping) else type(state_dict).__name__
            raise StateDictError(f"{self._name}: the state dict must have {sorted(wanted)}, got {got}")
        rates = [float(rate) for rate in state_dict["base_lrs"]]
        if len(rates) != len(self.optimizer.groups):
            count = len(self.optimizer.groups)
            raise StateDictError(f"{self._name}: the state dict must have {count} base rates, got {len(rates)}")
        self.steps, self.base_lrs = int(state_dict["steps"]), rates
        for key in self.STATE:
            value = state_dict[key]
            setattr(self, key, value.item() if hasattr(value, "item") else value)
        self._apply()

    def __repr__(self) -> str:
        return f"{self._name}(steps={self.steps}, lr={', '.join(f'{rate:g}' for rate in self.last_lr)})"


class StepLR(Schedule):
    """Multiply by gamma every `step_size` steps: ``lr = base * gamma**(t // step_size)``."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size = positive_int(self._name, "step_size", step_size)
        self.gamma = finite_float(self._name, "gamma", gamma, 0)
        super().__init__(optimizer)

    def _rate(self, t: int, base: float, group: int) -> float:
        return base * self.gamma ** (t // self.step_size)


class MultiStepLR(Schedule):
    """Multiply by gamma at each milestone: ``lr = base * gamma**(number of milestones <= t)``."""

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1) -> None:
        if not isinstance(milestones, (list, tuple)):
            raise ArgumentError(f"{self._name}: 'milestones' must be a list of int, got {milestones!r}")
        self.milestones = sorted(plain_int(self._name, "milestones", each, 0) for each in milestones)
        self.gamma = finite_float(self._name, "gamma", gamma, 0)
        super().__init__(optimizer)

    def _rate(self, t: int, base: float, group: int) -> float:
        return base * self.gamma ** sum(milestone <= t for milestone in self.milestones)


class ExponentialLR(Schedule):
    """Multiply by gamma at each step: ``lr = base * gamma**t``."""

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        self.gamma = finite_float(self._name, "gamma", gamma, 0)
        super().__init__(optimizer)

    def _rate(self, t: int, base: float, group: int) -> float:
        return base * self.gamma**t


class LambdaLR(Schedule):
    """Multiply by a function of t: ``lr = base * lr_lambda(t)``, one function, or one for each group."""

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]]
    ) -> None:
        groups = len(optimizer.groups) if isinstance(optimizer, Optimizer) else 1
        self.lr_lambdas = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != groups or not all(map(callable, self.lr_lambdas)):
            raise ArgumentError(f"{self._name}: 'lr_lambda' must be a function, or {groups}, got {lr_lambda!r}")
        super().__init__(optimizer)

    def _rate(self, t: int, base: float, group: int) -> float:
        return base * self.lr_lambdas[group](t)


class CosineAnnealingLR(Schedule):
    """Half a cosine from the base rate to `eta_min` at t = T_max, and back again after it, as PyTorch defines it.

        lr = eta_min + (base - eta_min) * (1 + cos(pi * t / T_max)) / 2

    References
    ----------
    Loshchilov & Hutter 2017, SGDR: stochastic gradient descent with warm restarts, (5), without the restarts.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        self.T_max = positive_int(self._name, "T_max", T_max)
        self.eta_min = finite_float(self._name, "eta_min", eta_min, 0)
        super().__init__(optimizer)

    def _rate(self, t: int, base: float, group: int) -> float:
        return _cosine(base, self.eta_min, t / self.T_max)


def _cosine(start: float, end: float, part: float) -> float:
    """Return the value at `part` of the way along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2


class LinearWarmup(Schedule):
    """Rise in a line to the base rate, which the step number `warmup_steps` is the first to have.

        lr = base * (start_factor + (1 - start_factor) * min(1, (t + 1) / warmup_steps))

    The first step has a rate above zero also for ``start_factor=0``.
    """

    def __init__(self, optimizer: Optimizer, warmup_steps: int, start_factor: float = 0.0) -> None:
        self.warmup_steps = positive_int(self._name, "warmup_steps", warmup_steps)
        self.start_factor = finite_float(self._name, "start_factor", start_factor, 0, 1)
        super().__init__(optimizer)

    def _rate(self, t: int, base: float, group: int) -> float:
        part = min(1.0, (t + 1) / self.warmup_steps)
        return base * (self.start_factor + (1 - self.start_factor) * part)


class WarmupCosine(LinearWarmup):
    """`LinearWarmup` for `warmup_steps`, then half a cosine down to `eta_min` at `total_steps`, and that from then on."""

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_steps: int,
        total_steps: int,
        eta_min: float = 0.0,
        start_factor: float = 0.0,
    ) -> None:
        self.total_steps = positive_int(self._name, "total_steps", total_steps)
        self.eta_min = finite_float(self._name, "eta_min", eta_min, 0)
        if self.total_steps <= positive_int(self._name, "warmup_steps", warmup_steps):
            raise ArgumentError(f"{self._name}: 'total_steps' must be more than warmup_steps, got {total_steps}")
        super().__init__(optimizer, warmup_steps, start_factor)

    def _rate(self, t: int, base: float, group: int) -> float:
        if t < self.warmup_steps:
            return super()._rate(t, base, group)
        part = (t - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        return _cosine(base, self.eta_min, min(1.0, part))


class OneCycleLR(Schedule):
    """Up to `max_lr` and down far below the start within `total_steps`, momentum the other way round.

    From ``max_lr / div_factor`` to `max_lr` over the first `pct_start` of all steps, then to the first rate /
    `final_div_factor`; with `three_phase` back to the first rate, as long as the way up took, and then down. Momentum (beta1 of
    Adam) goes from `max_momentum` to `base_momentum` and back. PyTorch's schedule without its ``epochs`` and
    ``steps_per_epoch``; the numbers are for all groups.

    Raises
    ------
    ArgumentError
        Also when `step` is called past the end.

    References
    ----------
    Smith & Topin 2019, Super-convergence: very fast training of neural networks using large learning rates.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float,
        total_steps: int,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
    ) -> None:
        name = self._name
        self.max_lr = finite_float(name, "max_lr", max_lr, 0)
        self.total_steps = positive_int(name, "total_steps", total_steps)
        self.pct_start = finite_float(name, "pct_start", pct_start, 0, 1)
        self.anneal_strategy = choice(name, "anneal_strategy", anneal_strategy, ("cos", "linear"))
        self.cycle_momentum = flag(name, "cycle_momentum", cycle_momentum)
        self.base_momentum = finite_float(name, "base_momentum", base_momentum, 0, 1)
        self.max_momentum = finite_float(name, "max_momentum", max_momentum, 0, 1)
        first = self.max_lr / finite_float(name, "div_factor", div_factor, 1e-300)
        last = first / finite_float(name, "final_div_factor", final_div_factor, 1e-300)
        turn = self.pct_start * self.total_steps - 1
        end = self.total_steps - 1
        low, high = self.base_momentum, self.max_momentum
        self._phases = [(turn, first, self.max_lr, high, low)]
        if flag(name, "three_phase", three_phase):
            self._phases += [(2 * turn, self.max_lr, first, low, high), (end, first, last, high, high)]
        else:
            self._phases += [(end, self.max_lr, last, low, high)]
        super().__init__(optimizer)

    def step(self) -> None:
        """Set the learning rate and momentum of the next step."""
        if self.steps + 1 >= self.total_steps:
            raise ArgumentError(f"{self._name}: 'total_steps' must be more than the steps made, got {self.total_steps}")
        super().step()

    def _apply(self) -> None:
        if self.cycle_momentum:
            for group in self.optimizer.groups:
                key = "beta1" if "beta1" in group.options else "momentum"
                if key not in group.options:
                    raise ArgumentError(
                        f"{self._name}: 'cycle_momentum' must be False for {self.optimizer._name}, got True"
                    )
                group.options[key] = self._value(self.steps)[1]
        super()._apply()

    def _rate(self, t: int, base: float, group: int) -> float:
        return self._value(t)[0]

    def _value(self, t: int) -> tuple[float, float]:
        """Return rate and momentum after t steps."""
        start = 0.0
        for end, from_lr, to_lr, from_momentum, to_momentum in self._phases:
            if t <= end or end == self._phases[-1][0]:
                part = (t - start) / (end - start) if end != start else 1.0
                return self._between(from_lr, to_lr, part), self._between(from_momentum, to_momentum, part)
            start = end
        raise AssertionError("the last phase ends the loop")

    def _between(self, start: float, end: float, part: float) -> float:
        return _cosine(start, end, part) if self.anneal_strategy == "cos" else start + (end - start) * part


class ReduceLROnPlateau(Schedule):
    """Multiply by `factor` when a metric has not become better for more than `patience` steps, as in PyTorch.

    Better is below the best so far times ``1 - threshold`` ("rel"), or less `threshold` ("abs"); for ``mode="max"``
    above it. After a change, `cooldown` steps do not count. Changes of less than `eps` are not made.

    Raises
    ------
    ArgumentError
    """

    STATE = ("best", "bad_steps", "cooling")

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        name = self._name
        self.mode = choice(name, "mode", mode, ("min", "max"))
        self.factor = finite_float(name, "factor", factor, 0, math.nextafter(1, 0))
        self.patience = plain_int(name, "patience", patience, 0)
        self.threshold = finite_float(name, "threshold", threshold, 0)
        self.threshold_mode = choice(name, "threshold_mode", threshold_mode, ("rel", "abs"))
        self.cooldown = plain_int(name, "cooldown", cooldown, 0)
        self.min_lr = finite_float(name, "min_lr", min_lr, 0)
        self.eps = finite_float(name, "eps", eps, 0)
        self.best = math.inf if mode == "min" else -math.inf
        self.bad_steps = self.cooling = 0
        super().__init__(optimizer)

    def step(self, metric: float | None = None) -> None:
        """Take the metric of this step, and set the learning rate of the next one."""
        if metric is None:
            raise ArgumentError(f"{self._name}: 'metric' must be a number, got None")
        self.steps += 1
        value = float(metric)
        if self._better(value):
            self.best, self.bad_steps = value, 0
        else:
            self.bad_steps += 1
        if self.cooling > 0:
            self.cooling, self.bad_steps = self.cooling - 1, 0
        if self.bad_steps > self.patience:
            self.cooling, self.bad_steps = self.cooldown, 0
            self._reduce()
        self._apply()

    def _better(self, value: float) -> bool:
        sign = 1 if self.mode == "min" else -1
        if self.threshold_mode == "rel":
            return sign * value < sign * self.best * (1 - sign * self.threshold)
        return sign * value < sign * self.best - self.threshold

    def _reduce(self) -> None:
        for index, rate in enumerate(self.base_lrs):
            lower = max(rate * self.factor, self.min_lr)
            if rate - lower > self.eps:
                self.base_lrs[index] = lower

    def _rate(self, t: int, base: float, group: int) -> float:
        return base
