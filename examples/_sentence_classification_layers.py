"""Layers of one's own: what a `Sequential` for sentences needs beside the layers of fastrnn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastrnn as fr

__all__ = ["LastState", "Spelling", "Tfidf"]


class Tfidf(fr.Layer):
    """The average of the word vectors of a sentence, each weighted by how rare its word is."""

    takes_lengths = True
    idf: Any

    def __init__(self, bag: fr.EmbeddingBag, idf: NDArray[np.float32]) -> None:
        self.bag = bag
        self.idf = fr.Buffer(idf)

    def __call__(self, tokens: Any, *, lengths: Any) -> Any:
        """Return vectors (N, E) for words (N, L)."""
        return self.bag(tokens, weights=self.idf[tokens], lengths=lengths)

    def forward(self, tokens: Any, *, lengths: Any) -> Any:
        """Return what a call returns, and the pullback."""
        return self.bag.forward(tokens, weights=self.idf[tokens], lengths=lengths)

    def out_lengths(self, lengths: Any) -> None:
        """Say that no time axis is left."""


class LastState(fr.Layer):
    """The final hidden state of a recurrent layer, those of both directions side by side."""

    takes_lengths = True

    def __init__(self, recurrent: fr.RNN | fr.LSTM) -> None:
        self.recurrent = recurrent

    def __call__(self, x: Any, *, lengths: Any) -> Any:
        """Return vectors (N, directions * H) for x (N, L, E)."""
        _, state = self.recurrent(x, lengths=lengths)
        return np.concatenate(state[0] if isinstance(state, tuple) else state, axis=-1)

    def forward(self, x: Any, *, lengths: Any) -> Any:
        """Return what a call returns, and the pullback."""
        (_, state), pull = self.recurrent.forward(x, lengths=lengths)
        pair = isinstance(state, tuple)
        h = state[0] if pair else state

        def backward(dy: Any) -> Any:
            dh = np.stack(np.split(dy, len(h), axis=-1))
            dx, _ = pull(None, (dh, None) if pair else dh)
            return dx

        return np.concatenate(h, axis=-1), backward

    def out_lengths(self, lengths: Any) -> None:
        """Say that no time axis is left."""


class Spelling(fr.Layer):
    """The characters (N, L, M) of words (N, L)."""

    table: Any

    def __init__(self, table: NDArray[np.int64]) -> None:
        self.table = fr.Buffer(table)

    def __call__(self, tokens: Any) -> Any:
        """Look the words up."""
        return self.table[tokens]

    def forward(self, tokens: Any) -> Any:
        """Return what a call returns, and a pullback: words have no gradient."""
        return self(tokens), lambda dy: None
