"""Loss functions: each returns the loss and its gradient, to hand to a pullback.

They are those of `fastrnn.ops`, under the names that users train with.
"""

from __future__ import annotations

from fastrnn.ops import cross_entropy, mse_loss

__all__ = ["cross_entropy", "mse_loss"]
