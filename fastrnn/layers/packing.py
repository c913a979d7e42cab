"""The cache of packed weights: never older than the parameters it was made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fastrnn._checks import FloatArray
from fastrnn.layers.parameter import Buffer, changes
from fastrnn.ops import isa_generation

__all__ = ["PackCache"]


class _Held(NamedTuple):
    isa: int
    changes: int  # of all changes anywhere, when the pack was last known to be fresh
    training: bool
    pack: Any
    buffers: list[Buffer]
    versions: list[int]


class PackCache:
    """Holds the last packed form of some parameters, for any number of threads.

    A pack is found again by the parameters themselves, their versions, and the ISA it was made for; or, sooner, by the
    count of changes: none since, anywhere. This key is read before the weights are: a change that comes in between
    leaves an old key with the new pack, which is then made again, and never a new key with an old pack. Two threads may
    pack at the same time; either result is right.
    """

    __slots__ = ("_held", "pattern")

    def __init__(self) -> None:
        self.pattern: Any = None  # for the layer: what makes packs of other values, without checks
        self._held: _Held | None = None  # replaced as one, so that threads see all or nothing

    def current(self, training: bool) -> Any:
        """Return the pack if nothing at all has changed since it was seen to be fresh, else None: then call `get`."""
        held = self._held
        if held is None or held.changes != changes.count or held.isa != isa_generation() or held.training < training:
            return None
        return held.pack

    def get(
        self,
        parameters: Mapping[str, Buffer],
        pack: Callable[[dict[str, FloatArray], bool], Any],
        training: bool,
    ) -> Any:
        """Return what ``pack(values, training)`` gives for the parameters as they are now.

        A pack for training serves inference too, but takes twice the memory; it is made when it is needed.
        """
        current = self.current(training)
        if current is not None:
            return current
        isa, count, buffers = isa_generation(), changes.count, list(parameters.values())
        versions = [buffer.version for buffer in buffers]
        held = self._held
        if (
            held is not None
            and (isa, versions, buffers) == (held.isa, held.versions, held.buffers)
            and held.training >= training
        ):
            training, packed = held.training, held.pack
        else:
            self._held = held = None  # the new pack finds the memory of the old one, unless somebody still uses that
            packed = pack({name: buffer.data for name, buffer in parameters.items()}, training)
        self._held = _Held(isa, count, training, packed, buffers, versions)
        return packed

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy as empty."""
        return PackCache, ()
