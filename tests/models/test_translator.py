"""An encoder-decoder with attention, whose decoder shares its weights over the steps through live pullbacks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from models.twins import STEPS, assert_same_losses, copy_parameters, our_losses, torch_losses

import fastrnn as fr

V, E, H, A, T, TARGETS, N = 9, 5, 6, 4, 7, 5, 4


class Translator(fr.Layer):
    """Bahdanau, Cho & Bengio 2015, with teacher forcing; each step reads the context of the one before."""

    def __init__(self, dtype: Any) -> None:
        rng = np.random.default_rng(0)
        common: Any = {"dtype": dtype, "rng": rng}
        self.source, self.target = fr.Embedding(V, E, **common), fr.Embedding(V, E, **common)
        self.encoder, self.decoder = fr.GRU(E, H, **common), fr.GRU(E + H, H, **common)
        self.attention = fr.Attention(H, H, "additive", units=A, **common)
        self.head = fr.Linear(2 * H, V, **common)

    def forward(self, source: Any, target: Any, *, lengths: Any) -> Any:
        """Return the logits (steps, N, V) for source (T, N) and target (steps, N), and the pullback."""
        words, back_source = self.source.forward(source)
        (encoded, h), back_encoder = self.encoder.forward(words, lengths=lengths)
        memory = self.attention.memory(encoded, lengths=lengths)
        context = np.zeros_like(h[0])
        steps, logits = [], []
        for tokens in target:
            step, back_target = self.target.forward(tokens)
            (_, h), back_decoder = self.decoder.forward(np.concatenate([step, context], -1)[None], h)
            (context, _), back_attention = memory.forward(h[0])
            y, back_head = self.head.forward(np.concatenate([h[0], context], -1))
            steps.append((back_target, back_decoder, back_attention, back_head))
            logits.append(y)

        def backward(dlogits: Any) -> None:
            dh, dcontext = np.zeros_like(h), np.zeros_like(h[0])
            for dy, (back_target, back_decoder, back_attention, back_head) in zip(
                dlogits[::-1], steps[::-1], strict=True
            ):
                both = back_head(dy)
                dcontext = dcontext + both[:, H:]
                dh = dh + both[:, :H] + back_attention(dcontext)
                dx, dh = back_decoder(None, dh)
                back_target(dx[0, :, :E])
                dcontext = dx[0, :, E:]
            dwords, _ = back_encoder(memory.backward(), dh)
            back_source(dwords)

        return np.stack(logits), backward


def torch_twin(dtype: Any) -> Any:
    import torch
    from torch import nn

    class Twin(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.source, self.target = nn.Embedding(V, E), nn.Embedding(V, E)
            self.encoder, self.decoder = nn.GRU(E, H), nn.GRU(E + H, H)
            self.query, self.memory, self.score = (
                nn.Parameter(torch.randn(shape) / 2) for shape in ((A, H), (A, H), (A,))
            )
            self.head = nn.Linear(2 * H, V)

        def forward(self, source: Any, target: Any, lengths: Any) -> Any:
            rnn = nn.utils.rnn
            packed = rnn.pack_padded_sequence(self.source(source), lengths, enforce_sorted=False)
            y, h = self.encoder(packed)
            encoded = rnn.pad_packed_sequence(y, total_length=T)[0]
            past = (torch.arange(T)[:, None] >= lengths)[..., None]
            context, logits = torch.zeros_like(h[0]), []
            for tokens in target:
                _, h = self.decoder(torch.cat([self.target(tokens), context], -1)[None], h)
                scores = torch.tanh(h[0] @ self.query.T + encoded @ self.memory.T) @ self.score
                weights = scores[..., None].masked_fill(past, -torch.inf).softmax(0)
                context = (weights * encoded).sum(0)
                logits.append(self.head(torch.cat([h[0], context], -1)))
            return torch.stack(logits)

    torch.manual_seed(0)
    return Twin().to(getattr(torch, np.dtype(dtype).name))


NAMES = {"attention.weight_query": "query", "attention.weight_memory": "memory", "attention.weight_score": "score"}


def batches() -> list[Any]:
    """Return (source, target with the start in front, lengths), two batches in turn: sentences to be copied."""
    rng, made = np.random.default_rng(0), []
    for _ in range(2):
        source, lengths = rng.integers(1, V, (T, N)), rng.integers(TARGETS, T + 1, N)
        made.append((source, np.vstack([np.zeros((1, N), int), source[:TARGETS]]), lengths))
    return made * (STEPS // 2)


def test_it_trains_like_its_twin(dtype: Any) -> None:
    torch = pytest.importorskip("torch")
    twin, model = torch_twin(dtype), Translator(dtype)
    copy_parameters(twin, model, lambda name: NAMES.get(name, name))

    def step(batch: Any) -> float:
        source, target, lengths = batch
        logits, backward = model.forward(source, target[:-1], lengths=lengths)
        loss, dlogits = fr.cross_entropy(logits, target[1:])
        backward(dlogits)
        return float(loss)

    def loss(batch: Any) -> Any:
        source, target, lengths = map(torch.from_numpy, batch)
        logits = twin(source, target[:-1], lengths)
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), target[1:].flatten())

    data = batches()
    assert_same_losses(our_losses(model, step, data), torch_losses(twin, loss, data), dtype)


def test_gradients() -> None:
    source, target, lengths = batches()[0]
    report = fr.gradcheck(Translator(np.float64), source, target[:-1], lengths=lengths)
    assert report.ok
    assert len(report.arrays) == 2 + 2 * 4 + 3 + 2
