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
        # (ISA, parameters, versions, whether for training too, pack): replaced as one, so that threads see all or nothing
        self._held: tuple[int, list[Buffer], list[int], bool, Any] | None = None

    def get(
        self,
        parameters: Mapping[str, Buffer],
        pack: Callable[[dict[str, FloatArray], bool], Any],
        training: bool,
    ) -> Any:
        """Return what ``pack(values, training)`` gives for the parameters as they are now.

        A pack for training serves inference too, but takes twice the memory; it is made when it is needed.
        """
        isa, buffers = ops.isa_generation(), list(parameters.values())
        versions = [buffer.version for buffer in buffers]
        held = self._held
        if held is not None:
            held_isa, held_buffers, held_versions, for_training, packed = held
            if isa == held_isa and versions == held_versions and buffers == held_buffers and for_training >= training:
                return packed
        packed = pack({name: buffer.data for name, buffer in parameters.items()}, training)
        self._held = (isa, buffers, versions, training, packed)
        return packed

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy as empty."""
        return PackCache, ()
