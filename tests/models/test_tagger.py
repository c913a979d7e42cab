"""A two-layer bidirectional LSTM tagger over sentences of different lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from models.twins import STEPS, assert_same_losses, copy_parameters, our_losses, torch_losses

import fastrnn as fr

V, E, H, K, T, N = 23, 6, 5, 4, 9, 5
IGNORED = -100


def tagger(dtype: Any) -> fr.Layer:
    return fr.Sequential(
        fr.Embedding(V, E, dtype=dtype, rng=0),
        fr.LSTM(E, H, 2, bidirectional=True, dtype=dtype, rng=1),
        fr.Linear(2 * H, K, dtype=dtype, rng=2),
    )


def batches() -> list[Any]:
    """Return (tokens, targets, lengths), two batches in turn; the tag of a word depends on it and on the one before."""
    rng, made = np.random.default_rng(0), []
    for _ in range(2):
        tokens, lengths = rng.integers(0, V, (T, N)), rng.integers(1, T + 1, N)
        targets = (tokens + np.vstack([tokens[:1], tokens[:-1]])) % K
        targets[np.arange(T)[:, None] >= lengths] = IGNORED
        made.append((tokens, targets, lengths))
    return made * (STEPS // 2)


def torch_twin(dtype: Any) -> Any:
    import torch

    class Twin(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.linear = torch.nn.Embedding(V, E), torch.nn.Linear(2 * H, K)
            self.lstm = torch.nn.LSTM(E, H, 2, bidirectional=True)

        def forward(self, tokens: Any, lengths: Any) -> Any:
            rnn = torch.nn.utils.rnn
            packed = rnn.pack_padded_sequence(self.embedding(tokens), lengths, enforce_sorted=False)
            return self.linear(rnn.pad_packed_sequence(self.lstm(packed)[0], total_length=T)[0])

    torch.manual_seed(0)
    return Twin().to(getattr(torch, np.dtype(dtype).name))


def test_it_trains_like_its_twin(dtype: Any) -> None:
    torch = pytest.importorskip("torch")
    twin, model = torch_twin(dtype), tagger(dtype)
    parts = {"0": "embedding", "1": "lstm", "2": "linear"}
    copy_parameters(twin, model, lambda name: parts[name[0]] + name[1:])

    def step(batch: Any) -> float:
        tokens, targets, lengths = batch
        logits, backward = model.forward(tokens, lengths=lengths)
        loss, dlogits = fr.cross_entropy(logits, targets, ignore_index=IGNORED)
        backward(dlogits)
        return float(loss)

    def loss(batch: Any) -> Any:
        tokens, targets, lengths = map(torch.from_numpy, batch)
        return torch.nn.functional.cross_entropy(twin(tokens, lengths).flatten(0, 1), targets.flatten())

    data = batches()
    assert_same_losses(our_losses(model, step, data), torch_losses(twin, loss, data), dtype)


def test_gradients() -> None:
    tokens, _, lengths = batches()[0]
    assert fr.gradcheck(tagger(np.float64), tokens, lengths=lengths).ok


def test_padding_does_not_matter() -> None:
    model = tagger(np.float32)
    tokens, _, lengths = batches()[0]
    logits = model(tokens, lengths=lengths)
    other = np.where(np.arange(T)[:, None] < lengths, tokens, 0)
    for n, length in enumerate(lengths):
        np.testing.assert_array_equal(logits[:length, n], model(other, lengths=lengths)[:length, n])
        np.testing.assert_array_equal(logits[:length, n], model(tokens[:length, n : n + 1])[:, 0])
