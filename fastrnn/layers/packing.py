"""The cache of packed weights: never older than the parameters it was made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastrnn import ops
from fastrnn._checks import FloatArray
from fastrnn.layers.parameter import Buffer

__all__ = ["PackCache"]


class PackCache:
    """Holds the last packed form of some parameters, for any number of threads.

    A pack is found again by the parameters themselves, their versions, and the ISA it was made for. This key is read
    before the weights are: a change that comes in between leaves an old key with the new pack, which is then made
    again, and never a new key with an old pack. Two threads may pack at the same time; either result is right.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        # (key, whether for training too, pack): replaced as one, so that threads see all or nothing
        self._held: tuple[object, bool, Any] | None = None

    def get(
        self,
        parameters: Mapping[str, Buffer],
        pack: Callable[[dict[str, FloatArray], bool], Any],
        training: bool,
    ) -> Any:
        """Return what ``pack(values, training)`` gives for the parameters as they are now.

        A pack for training serves inference too, but takes twice the memory; it is made when it is needed.
        """
        key: list[object] = [ops.isa_generation()]
        for parameter in parameters.values():
            key += (parameter, parameter.version)
        held = self._held
        if held is not None and held[1] >= training and held[0] == key:
            return held[2]
        packed = pack({name: parameter.data for name, parameter in parameters.items()}, training)
        self._held = (key, training, packed)
        return packed

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy as empty."""
        return PackCache, ()
