"""Convolutions to run on `fastrnn.reference` or `fastrnn.ops`, in either layout."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
from numeric import Array, random_arrays
from numpy.typing import DTypeLike
from shapes import ConvSizes

LAYOUTS_LAST = {1: "NLC", 2: "NHWC", 3: "NDHWC"}


@dataclass(frozen=True)
class ConvProblem:
    """One call with everything it takes, and the gradient to pull back. `x` and `dy` lie as `layout` says."""

    kind: str
    x: Array
    params: dict[str, Array]
    dy: Array
    options: dict[str, Any]

    @classmethod
    def random(
        cls,
        rng: np.random.Generator,
        sizes: ConvSizes,
        dtype: DTypeLike = np.float64,
        *,
        kind: str = "conv",
        last: bool = False,
        params: tuple[str, ...] = ("bias",),
        **options: Any,
    ) -> ConvProblem:
        """Return a problem with random data; weights have the scale that keeps the size of values."""
        N, C, K, spatial, kernel, given = sizes
        first, second = (K, C) if kind == "conv" else (C, K)
        shapes = {"weight": (first, second // sizes.groups, *kernel), **dict.fromkeys(params, (K,))}
        arrays = random_arrays(rng, shapes, dtype)
        arrays["weight"] /= np.asarray(np.sqrt(arrays["weight"][0].size), dtype)
        x = rng.standard_normal((N, C, *spatial)).astype(dtype)
        options = {**given, **options}
        if last:
            options["layout"], x = LAYOUTS_LAST[len(kernel)], np.ascontiguousarray(np.moveaxis(x, 1, -1))
        problem = cls(kind, x, arrays, x, options)
        from fastrnn import reference

        y = problem.forward(reference)
        return replace(problem, dy=rng.standard_normal(y.shape).astype(dtype))

    def astype(self, dtype: DTypeLike) -> ConvProblem:
        """Return the same problem in another dtype."""
        params = {name: value.astype(dtype) for name, value in self.params.items()}
        return replace(self, x=self.x.astype(dtype), params=params, dy=self.dy.astype(dtype))

    def forward(self, module: ModuleType) -> Array:
        """Return y."""
        y: Array = getattr(module, f"{self.kind}_forward")(self.x, **self.params, **self.options)
        return y

    def results(self, module: ModuleType, grads: dict[str, Array] | None = None) -> dict[str, Any]:
        """Return all that the vjp gives under one name each."""
        y, pullback = getattr(module, f"{self.kind}_vjp")(self.x, **self.params, **self.options)
        dx, sums = pullback(self.dy, grads=grads)
        return {"y": y, "dx": dx, "grads": sums}

    def exact(self) -> dict[str, Any]:
        """Return the results of the reference in float64."""
        from fastrnn import reference

        return self.astype(np.float64).results(reference)
