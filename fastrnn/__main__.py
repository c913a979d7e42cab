"""``python -m fastrnn``: what this build is made of, and a short check of every instruction set against the reference."""

from __future__ import annotations

import sys

import numpy as np

from fastrnn import ops, reference
from fastrnn.init import glorot_uniform

GATES = {"rnn": 1, "lstm": 4, "gru": 3}


def largest_error(cell: str) -> float:
    """Return the largest difference between compiled float32 results and gradients and the float64 reference."""
    rng = np.random.default_rng(0)
    T, N, C, H = 5, 7, 19, 37
    params = {
        "weight_ih": glorot_uniform((GATES[cell] * H, C), dtype=np.float32, rng=rng),
        "weight_hh": glorot_uniform((GATES[cell] * H, H), dtype=np.float32, rng=rng),
    }
    x, dy = (rng.standard_normal(shape).astype(np.float32) for shape in ((T, N, C), (T, N, H)))
    exact = {name: value.astype(np.float64) for name, value in params.items()}
    (y, _), pullback = getattr(ops, f"{cell}_vjp")(x, params)
    (wanted, _), wanted_pullback = getattr(reference, f"{cell}_vjp")(x.astype(np.float64), exact)
    dx, _, grads = pullback(dy)
    wanted_dx, _, wanted_grads = wanted_pullback(dy.astype(np.float64))
    pairs = [(y, wanted), (dx, wanted_dx)] + [(grads[name], wanted_grads[name]) for name in params]
    return max(float(np.abs(got - want).max()) for got, want in pairs)


def main() -> int:
    """Print the report; return 1 if a check failed."""
    for key, value in ops.build_info().items():
        print(f"{key:15} {', '.join(value) if isinstance(value, tuple) else value}")
    before, failed = ops.get_isa(), False
    for isa in ops.available_isas():
        ops.set_isa(isa)
        for cell in GATES:
            error = largest_error(cell)
            failed |= not error < 1e-4  # sums of a few dozen products of order 1, five steps back and forth
            print(f"check {isa:9} {cell:5} largest error {error:.1e} {'ok' if error < 1e-4 else 'FAILED'}")
    ops.set_isa(before)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
