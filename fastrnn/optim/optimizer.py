"""What every optimizer is: groups of parameters with their options, and the arrays kept for each parameter."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from fastrnn._checks import FloatArray, IntArray, finite_float
from fastrnn.errors import ArgumentError, StateDictError
from fastrnn.layers.arenas import Arena, Trained, named_parameters, runs
from fastrnn.layers.layer import Layer
from fastrnn.layers.parameter import Parameter

__all__ = ["Group", "Grouped", "Optimizer"]

Grouped: TypeAlias = "Trained | Sequence[Mapping[str, Any]]"
Options: TypeAlias = dict[str, Any]
Slots: TypeAlias = "dict[str, FloatArray]"


@dataclass
class Group:
    """Parameters by name, and the options they are trained with; the latter may be set between steps."""

    params: dict[str, Parameter]
    options: Options


class Optimizer:
    """Base class: which parameters, which options, and the arrays kept for each parameter between steps.

    A parameter that never had a gradient is left alone. Of a sparse parameter only the rows that were touched since
    `zero_grad` are read or written. Parameters that lie side by side in an arena are updated in one pass.

    ``params`` may be a list of dicts, as in PyTorch: ``[{"params": model.encoder, "lr": 1e-4}, {"params": head}]``, each
    with options of its own. They become `groups`.
    """

    #: Options that are numbers or flags and are part of the state.
    OPTIONS: tuple[str, ...] = ()

    def __init__(self, params: Grouped, **arguments: Any) -> None:
        self.groups = [
            Group(named, self._checked({**arguments, **own})) for named, own in self._split(params, arguments)
        ]
        self.params = {name: parameter for group in self.groups for name, parameter in group.params.items()}
        if not self.params:
            raise ArgumentError(f"{self._name}: 'params' must have at least one parameter, got none")
        self._slots: dict[str, Slots] = {}
        self._homes: dict[str, Arena | None] = {}  # in whose layout the slots lie
        self._flat: dict[tuple[Arena, str], FloatArray] = {}  # slots of a whole arena
        self._steps: dict[str, int] = {}

    def _split(self, params: Grouped, known: Mapping[str, Any]) -> list[tuple[dict[str, Parameter], Options]]:
        """Return the parameters of each group, and its options."""
        given: list[Any] = []
        if isinstance(params, Iterable) and not isinstance(params, (Layer, Mapping)):
            given = list(params)
        if not given or not all(isinstance(group, Mapping) for group in given):
            return [(named_parameters(self._name, given or params), {})]  # type: ignore[arg-type]
        groups: list[tuple[dict[str, Parameter], Options]] = []
        seen: set[Parameter] = set()
        for index, group in enumerate(given):
            options = dict(group)
            if "params" not in options or set(options) - {"params", *known}:
                allowed = ", ".join(("params", *known))
                raise ArgumentError(
                    f"{self._name}: 'params[{index}]' must have keys out of {allowed}, got {sorted(group)}"
                )
            named = named_parameters(self._name, options.pop("params"))
            if not seen.isdisjoint(named.values()):
                raise ArgumentError(
                    f"{self._name}: 'params[{index}]' must hold new parameters, got one of an earlier group"
                )
            seen.update(named.values())
            groups.append(({f"{index}.{name}": parameter for name, parameter in named.items()}, options))
        return groups

    @property
    def _name(self) -> str:
        return type(self).__name__

    @property
    def lr(self) -> float:
        """Learning rate of the first group; setting it sets that of all groups."""
        rate: float = self.groups[0].options["lr"]
        return rate

    @lr.setter
    def lr(self, value: float) -> None:
        rate = finite_float(self._name, "lr", value, 0)
        for group in self.groups:
            group.options["lr"] = rate

    def step(self) -> None:
        """Update every parameter from its gradient, in place."""
        for group in self.groups:
            started = {name: parameter for name, parameter in group.params.items() if parameter.has_grad}
            for name, parameter in started.items():
                self._prepare(name, parameter, group.options)
            names = {parameter: name for name, parameter in started.items()}
            for run in runs(names):
                for part in self._alike(run, names):
                    self._update_run(part, names, group.options)

    def _prepare(self, name: str, parameter: Parameter, options: Options) -> None:
        """Count a step, and see that the slots are there, in the layout of the parameter's arena."""
        self._steps[name] = self._steps.get(name, 0) + 1
        if name in self._slots and self._homes[name] is parameter._home:
            return
        old = self._slots.get(name, {})
        self._slots[name] = self._new_slots(parameter, options)
        self._homes[name] = parameter._home
        for slot, array in old.items():
            self._slots[name][slot][...] = array
        if old:  # an arena that all parameters have left is let go of
            lived_in = set(self._homes.values())
            self._flat = {key: flat for key, flat in self._flat.items() if key[0] in lived_in}

    def _new_slots(self, parameter: Parameter, options: Options) -> Slots:
        home, kept = parameter._home, self._kept(options)
        if home is None:  # zeros that are not touched take no memory, as in a large table
            slots = {slot: np.zeros(parameter.shape, parameter.dtype) for slot in kept}
        else:
            for slot in kept:
                if (home, slot) not in self._flat:
                    self._flat[home, slot] = np.zeros(home.size, home.dtype)
            slots = {slot: home.view(self._flat[home, slot], parameter) for slot in kept}
        for slot, array in slots.items():
            start = self._start(slot, options)
            if start != 0:
                array.fill(start)
        return slots

    def _alike(self, run: list[Parameter], names: Mapping[Parameter, str]) -> list[list[Parameter]]:
        """Split a run into parts that have made equally many steps."""
        parts: list[list[Parameter]] = []
        for parameter in run:
            if parts and self._steps[names[parts[-1][-1]]] == self._steps[names[parameter]]:
                parts[-1].append(parameter)
            else:
                parts.append([parameter])
        return parts

    def _update_run(self, run: list[Parameter], names: Mapping[Parameter, str], options: Options) -> None:
        name, parameter = names[run[0]], run[0]
        step, slots, home = self._steps[name], self._slots[name], parameter._home
        if len(run) == 1:
            with parameter.edit() as values:
                self._update(values, parameter._sum(), slots, step, options, parameter.rows)
            return
        span = home.span(run)
        flat = {slot: self._flat[home, slot][span] for slot in slots}
        with home.edit(run) as values:
            self._update(values, home._sums(run), flat, step, options, None)

    def _checked(self, given: Options) -> Options:
        """Return OPTIONS from the constructor's arguments, or raise."""
        raise NotImplementedError

    def _kept(self, options: Options) -> tuple[str, ...]:
        """Return the names of the arrays that an optimizer with these options keeps for each parameter."""
        raise NotImplementedError

    def _start(self, slot: str, options: Options) -> float:
        """Return the value that the elements of `slot` start from."""
        return 0.0

    def _update(
        self, values: FloatArray, grad: FloatArray, slots: Slots, step: int, options: Options, rows: IntArray | None
    ) -> None:
        """Update one array, or only these rows of it; `step` is 1 at its first."""
        raise NotImplementedError

    def zero_grad(self) -> None:
        """Set the gradients of all parameters to zero."""
        for parameter in self.params.values():
            parameter.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """Return options, step counts and copies of the kept arrays: "lr", "step.0.weight", "m.0.weight"...

        Options of the second group and further ones are called "lr.1", "lr.2"...
        """
        state = {key: self.groups[index].options[option] for key, option, index in self._option_keys()}
        for name, slots in self._slots.items():
            state[f"step.{name}"] = self._steps[name]
            state.update({f"{slot}.{name}": array.copy() for slot, array in slots.items()})
        return state

    def _option_keys(self) -> list[tuple[str, str, int]]:
        """Return what the options are called in a state dict, and their groups by number."""
        indices = range(len(self.groups))
        return [(f"{option}.{i}" if i else option, option, i) for i in indices for option in self.OPTIONS]

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

        loaded: list[Options] = [{} for _ in self.groups]
        for key, option, index in self._option_keys():
            loaded[index][option] = _number(key, left, problems)
        started = [name for name in self.params if f"step.{name}" in left]
        steps = {name: int(_number(f"step.{name}", left, problems)) for name in started}
        slots: dict[str, Slots] = {}
        for group, options in zip(self.groups, loaded, strict=True):
            kept = self._kept(options)
            for name in filter(steps.__contains__, group.params):
                slots[name] = {slot: self._slot(slot, name, left, problems) for slot in kept}
        problems += [f"unexpected: {', '.join(map(str, left))}"] if left else []
        if problems:
            raise StateDictError(f"{self._name}: the state dict does not fit\n  " + "\n  ".join(problems))
        for group, options in zip(self.groups, loaded, strict=True):
            group.options.update(options)
        self._steps, self._slots, self._flat = steps, slots, {}
        self._homes = dict.fromkeys(slots)

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
        keys = self._option_keys()
        options = ", ".join(f"{key}={self.groups[index].options[option]!r}" for key, option, index in keys)
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
