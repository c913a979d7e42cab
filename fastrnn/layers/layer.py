"""What every layer is: a tree of named parameters, whatever the layer computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastrnn._checks import FloatArray
from fastrnn.errors import ArgumentError, ShapeError, StateDictError
from fastrnn.layers.parameter import Buffer, Parameter, changes

if TYPE_CHECKING:
    from fastrnn.layers.summary import Summary

__all__ = ["Layer", "layer_from_config", "registered"]

_AnyLayer = TypeVar("_AnyLayer", bound="type[Layer]")


class Layer:
    """Base class of layers and of models made of them.

    Calling a layer predicts: it is pure, re-entrant and records nothing. `forward` trains: it returns the result and a
    pullback that adds to the gradients of the parameters and returns the gradient of the input.

    A model of your own subclasses `Layer`, keeps its layers as attributes (or in lists, tuples or dicts that are
    attributes), and defines `__call__` and `forward`; parameters are then found by name, as in "lstm.weight_ih_l0".
    A `Parameter` kept as an attribute reads as its read-only array, and assigning an array to it changes its values. The
    same goes for a `Buffer`, an array that is part of the state of the layer and not trained.
    """

    #: Whether `__call__` and `forward` take ``lengths=``; a `Sequential` then passes its own on.
    takes_lengths: bool = False
    #: Whether the result is ``(y, state)``; a `Sequential` passes on y alone.
    returns_state: bool = False
    #: The ``activation=`` of other layers that does what this layer does; `fuse` puts it there.
    fused_activation: str | None = None

    #: Whether `forward` takes ``input_gradient=``, and computes no gradient of its input if that is False.
    skips_input_gradient: bool = False

    _parameters: dict[str, Parameter]
    _buffers: dict[str, Buffer]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Predict."""
        raise NotImplementedError(f"{self._name}: a layer must define __call__")

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return ``(result, pullback)``."""
        raise NotImplementedError(f"{self._name}: a layer must define forward")

    def out_lengths(self, lengths: Any) -> Any:
        """Return the lengths of the results for sequences of these `lengths`, or None if the result has no time axis.

        Containers call it to know the lengths for the next layer. Layers that keep the time axis, as this default
        says, return `lengths` itself.
        """
        return lengths

    def multiply_adds(self, x_shape: tuple[int, ...], y_shape: tuple[int, ...]) -> int:
        """Return the multiply-adds of the layer's own products in one call, for `summary`; those of layers inside it add up."""
        return 0

    def summary(self, x: Any, **options: Any) -> Summary:
        """Return shapes, parameters, multiply-adds and memory, layer by layer; ``print`` it to see a table.

        Parameters
        ----------
        x : array, or tuple of int
            What the model is called with, or the shape of that with its batch: zeros are then used, and tokens if the
            model wants whole numbers.
        **options
            Passed on to the call, such as ``lengths=``. Products are counted for padded steps too.

        Raises
        ------
        ShapeError, DTypeError, ArgumentError
            From the layer that cannot take what comes to it.
        """
        from fastrnn.layers.summary import summarize

        return summarize(self, x, options)

    @property
    def _name(self) -> str:
        """Who complains in messages."""
        return type(self).__name__

    # Parameters live in one dict, buffers in another; as attributes they read as arrays.

    def __getattr__(self, name: str) -> FloatArray:
        for kind in ("_parameters", "_buffers"):
            own = self.__dict__.get(kind, {})
            if name in own:
                data: FloatArray = own[name].data
                return data
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: object) -> None:
        parameters: dict[str, Parameter] = self.__dict__.setdefault("_parameters", {})
        buffers: dict[str, Buffer] = self.__dict__.setdefault("_buffers", {})
        trained = name in parameters or (isinstance(value, Parameter) and name not in buffers)
        own: dict[str, Any] = parameters if trained else buffers
        if isinstance(value, Buffer):
            old = own.get(name, value)
            if (type(old), old.shape, old.dtype) != (type(value), value.shape, value.dtype):
                raise ShapeError(f"{self._name}: '{name}' must be like {old!r}, got {value!r}")
            self.__dict__.pop(name, None)
            own[name] = value
            changes.add()
        elif name in own:
            own[name]._assign(self._name, name, value)
        else:
            object.__setattr__(self, name, value)

    def _own(self, name: str, value: FloatArray) -> None:
        """Make `value` the initial value of a parameter of this layer."""
        setattr(self, name, Parameter(value))

    def _keep(self, name: str, value: NDArray[Any]) -> None:
        """Make `value` the initial value of a buffer of this layer."""
        setattr(self, name, Buffer(value))

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.__dict__.get("_parameters", ()), *self.__dict__.get("_buffers", ())]

    def _children(self) -> Iterator[tuple[str, Layer]]:
        """Yield the layers directly inside this one with their names."""
        for name, value in vars(self).items():
            if type(value) not in _PLAIN and name not in {"_parameters", "_buffers"}:
                yield from _layers_in(name, value)

    def _all_layers(self, prefix: str = "", above: tuple[Layer, ...] = ()) -> Iterator[tuple[str, Layer]]:
        """Yield this layer and all inside it, with what their names begin with; `above` are the layers on the way here."""
        yield prefix, self
        for name, child in self._children():
            if child is not self and all(child is not layer for layer in above):
                yield from child._all_layers(f"{prefix}{name}.", (*above, self))

    def _all_names(self) -> Iterator[tuple[str, Buffer]]:
        """Yield every name of every parameter and buffer; a shared one has several."""
        for prefix, layer in self._all_layers():
            for kind in ("_parameters", "_buffers"):
                for name, value in vars(layer).get(kind, {}).items():
                    yield prefix + name, value

    def _state(self) -> dict[str, Buffer]:
        """Return all parameters and buffers by their first names."""
        first_names: dict[Buffer, str] = {}
        for name, value in self._all_names():
            first_names.setdefault(value, name)
        return {name: value for value, name in first_names.items()}

    def parameters(self) -> dict[str, Parameter]:
        """Return all parameters by name; one that is shared appears once, under its first name."""
        return {name: value for name, value in self._state().items() if isinstance(value, Parameter)}

    def buffers(self) -> dict[str, Buffer]:
        """Return all buffers by name; one that is shared appears once, under its first name."""
        return {name: value for name, value in self._state().items() if not isinstance(value, Parameter)}

    def num_parameters(self) -> int:
        """Return the number of trained values."""
        return sum(parameter.size for parameter in self.parameters().values())

    def zero_grad(self) -> None:
        """Set all gradients to zero."""
        for _, layer in self._all_layers():
            for parameter in layer.__dict__.get("_parameters", {}).values():
                parameter.zero_grad()  # once more if it is shared

    def state_dict(self) -> dict[str, FloatArray]:
        """Return copies of all parameters and buffers by name."""
        return {name: np.array(value.data) for name, value in self._state().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> None:
        """Set the parameters and buffers from arrays by name.

        Parameters
        ----------
        state_dict : mapping of names to arrays
            NumPy arrays, PyTorch tensors, or anything else that NumPy can view, of float32 or float64 (integers for a
            buffer of integers); values are rounded to the layer's dtype. A shared parameter may come under any of its
            names.
        strict : bool
            Whether missing and unexpected names are errors.

        Raises
        ------
        StateDictError
            Lists all missing, unexpected and unfit entries at once; nothing has changed.
        """
        if not isinstance(state_dict, Mapping):
            kind = type(state_dict).__name__
            raise ArgumentError(f"{self._name}: 'state_dict' must be a mapping of names to arrays, got {kind}")
        names = dict(self._all_names())
        problems: list[str] = []
        values: dict[Buffer, FloatArray] = {}
        for name in filter(state_dict.__contains__, names):
            parameter = names[name]
            array, problem = _fitting(name, state_dict[name], parameter)
            if not problem and parameter in values and not np.array_equal(values[parameter], array, equal_nan=True):
                problem = f"'{name}' differs from another name of the same shared parameter"
            problems += [problem] if problem else []
            values[parameter] = array
        if strict:
            missing = [name for name, parameter in self._state().items() if parameter not in values]
            unexpected = [str(name) for name in state_dict if name not in names]
            problems += [f"missing: {', '.join(missing)}"] if missing else []
            problems += [f"unexpected: {', '.join(unexpected)}"] if unexpected else []
        if problems:
            raise StateDictError(f"{self._name}: the state dict does not fit\n  " + "\n  ".join(problems))
        for parameter, array in values.items():
            parameter.assign(array)

    def fuse(self) -> Layer:
        """Return a copy for inference with fewer layers: batch normalisation and activations go into the layers before them.

        The equations and conditions are those of `fastrnn.layers.fuse.fuse`.
        """
        from fastrnn.layers.fuse import fuse  # it knows layers, which are made of this class

        return fuse(self)

    def config(self) -> dict[str, Any]:
        """Return what `from_config` needs to build such a layer again: names and values that JSON can hold.

        Raises
        ------
        ArgumentError
            This is a class of the user's own.
        """
        name = self._name
        if _REGISTRY.get(name) is not type(self):
            raise ArgumentError(
                f"{name}: only fastrnn's own layers can be built from a file; "
                "build the model and use load_state_dict instead"
            )
        return {"type": name}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Layer:
        """Build a layer from what `config` returned."""
        raise ArgumentError(f"{cls.__name__}: cannot be built from a config")

    def __repr__(self) -> str:
        """Return the layer with its options, or its layers one per line."""
        lines = [f"  ({name}): {repr(child).replace(chr(10), chr(10) + '  ')}\n" for name, child in self._children()]
        inside = "\n" + "".join(lines) if lines else self._options()
        return f"{self._name}({inside})"

    def _options(self) -> str:
        """Return what `repr` shows between the parentheses."""
        return ""


#: Types of most attributes that are no layers and hold none.
_PLAIN = frozenset((type(None), bool, int, float, str, np.ndarray))


def _layers_in(name: str, value: object) -> Iterator[tuple[str, Layer]]:
    """Yield the layers that an attribute holds, itself or in lists, tuples and dicts."""
    if isinstance(value, Layer):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            if type(item) not in _PLAIN:
                yield from _layers_in(f"{name}.{index}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _layers_in(f"{name}.{key}", item)


def _fitting(name: str, value: object, parameter: Buffer) -> tuple[FloatArray, str]:
    """Return `value` as an array for `parameter`, and what is wrong with it or ""."""
    try:
        array: NDArray[Any] = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        return parameter.data, f"'{name}' must be an array, got {type(value).__name__} ({error})"
    whole = parameter.dtype.kind == "i"
    if array.dtype.kind not in "iu" if whole else array.dtype.newbyteorder("=") not in (np.float32, np.float64):
        kinds = "an integer dtype" if whole else "dtype float32 or float64"
        return parameter.data, f"'{name}' must have {kinds}, got {array.dtype}"
    if array.shape != parameter.shape:
        return parameter.data, f"'{name}' must have shape {parameter.shape}, got {array.shape}"
    return array.astype(parameter.dtype), ""


_REGISTRY: dict[str, type[Layer]] = {}


def registered(cls: _AnyLayer) -> _AnyLayer:
    """Make a layer class known to `layer_from_config` by its name."""
    _REGISTRY[cls.__name__] = cls
    return cls


def layer_from_config(config: Mapping[str, Any]) -> Layer:
    """Build the layer that `config`, as returned by `Layer.config`, describes.

    Raises
    ------
    ArgumentError
        An unknown class or unfit options.
    """
    kind = config.get("type") if isinstance(config, Mapping) else None
    if not isinstance(kind, str) or kind not in _REGISTRY:
        known = ", ".join(sorted(_REGISTRY))
        raise ArgumentError(f"Layer: 'config' must have a type out of {known}, got {kind!r}")
    return _REGISTRY[kind].from_config(config)
