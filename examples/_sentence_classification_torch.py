"""The PyTorch twin of a sentence classifier: built layer by layer from ours, with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from _sentence_classification_data import Batch
from _sentence_classification_layers import LastState, Spelling, Tfidf
from _torch_learner import TorchLearner, load_weights
from numpy.typing import NDArray
from torch import nn

import fastrnn as fr

__all__ = ["TorchTrainer"]


class TorchTrainer(TorchLearner):
    """The twin of a model, and of its trainer."""

    def __init__(self, model: fr.Sequential, lr: float, clip: float) -> None:
        super().__init__(twin(model), clip=clip, lr=lr)

    def step(self, batch: Batch) -> float:
        """Learn from a batch; return its loss."""
        self.module.train()
        tokens, lengths, labels = map(torch.from_numpy, batch)
        return self.learn(nn.functional.cross_entropy(self.module(tokens, lengths), labels))

    def predict(self, batch: Batch) -> NDArray[Any]:
        """Return the label of each sentence."""
        labels: NDArray[Any] = np.argmax(self.logits(batch), axis=-1)
        return labels

    def logits(self, batch: Batch) -> NDArray[Any]:
        """Return what the softmax is taken of."""
        self.module.eval()
        with torch.inference_mode():
            return np.asarray(self.module(*map(torch.from_numpy, batch[:2])).numpy())


def twin(layer: fr.Layer) -> Any:
    """Return a module with the weights of a layer; it takes (x, lengths), as ours do."""
    if isinstance(layer, fr.Sequential):
        return Chain(layer)
    if isinstance(layer, fr.Parallel):
        return Beside(layer)
    if isinstance(layer, fr.TimeDistributed):
        return EachStep(layer)
    return Single(layer)


class Chain(nn.Module):  # type: ignore[misc, unused-ignore]
    """Modules one after another."""

    def __init__(self, layer: fr.Sequential) -> None:
        super().__init__()
        self.parts = nn.ModuleList(map(twin, layer))

    def forward(self, x: Any, lengths: Any) -> Any:
        """Run them."""
        for part in self.parts:
            x = part(x, lengths)
        return x


class Beside(nn.Module):  # type: ignore[misc, unused-ignore]
    """Modules side by side."""

    def __init__(self, layer: fr.Parallel) -> None:
        super().__init__()
        self.parts = nn.ModuleList(map(twin, layer))

    def forward(self, x: Any, lengths: Any) -> Any:
        """Run all of them on x."""
        return torch.cat([part(x, lengths) for part in self.parts], -1)


class EachStep(nn.Module):  # type: ignore[misc, unused-ignore]
    """A module at each step of each sequence that is not padding; zeros elsewhere."""

    def __init__(self, layer: fr.TimeDistributed) -> None:
        super().__init__()
        self.part = twin(layer.layer)

    def forward(self, x: Any, lengths: Any) -> Any:
        """Run it on the steps as one batch."""
        valid = _valid(x, lengths)
        y = self.part(x[valid], None)
        return y.new_zeros(*x.shape[:2], y.shape[-1]).index_put(valid.nonzero(as_tuple=True), y)


class Single(nn.Module):  # type: ignore[misc, unused-ignore]
    """Any other layer of a classifier: `module` has the weights, `run` says how it is called."""

    def __init__(self, layer: fr.Layer) -> None:
        super().__init__()
        self.module, self.run = _converted(layer)
        source = layer.recurrent if isinstance(layer, LastState) else layer.bag if isinstance(layer, Tfidf) else layer
        if source.parameters():
            state = source.state_dict()
            load_weights(self.module, state)

    def forward(self, x: Any, lengths: Any) -> Any:
        """Run it."""
        return self.run(self.module, x, lengths)


def _converted(layer: fr.Layer) -> tuple[Any, Callable[[Any, Any, Any], Any]]:
    """Return a module without weights yet, and how it is called with x and lengths."""
    module: Any = nn.Identity()
    run: Callable[[Any, Any, Any], Any] = _plainly
    match layer:
        case fr.Embedding():
            module = nn.Embedding(layer.num_embeddings, layer.embedding_dim, 0)
        case fr.EmbeddingBag():
            module = _bag(layer, layer.mode)  # padding is left out by its index
        case Tfidf():
            module, idf = _bag(layer.bag, "sum"), torch.from_numpy(np.array(layer.idf))
            run = partial(_weighted_average, idf=idf)
        case Spelling():
            table = torch.from_numpy(np.array(layer.table))
            run = partial(_lookup, table=table)
        case LastState(recurrent=cell):
            kind = nn.LSTM if isinstance(cell, fr.LSTM) else nn.RNN
            module = kind(cell.input_size, cell.hidden_size, batch_first=True, bidirectional=cell.bidirectional)
            run = _last_state
        case fr.Conv1d():
            module, run = nn.Conv1d(layer.in_channels, layer.out_channels, layer.kernel_size), _convolution
        case fr.TimePool():
            run = _max_over_time
        case fr.Dropout():
            module = nn.Dropout(layer.p)
        case fr.Linear():
            module = nn.Linear(layer.in_features, layer.out_features)
        case _:
            raise TypeError(f"no twin of {layer!r}")
    return module, run


def _plainly(module: Any, x: Any, lengths: Any) -> Any:
    return module(x)


def _lookup(module: Any, x: Any, lengths: Any, table: Any) -> Any:
    return table[x]


def _convolution(module: Any, x: Any, lengths: Any) -> Any:
    before, after = (module.kernel_size[0] - 1) // 2, module.kernel_size[0] // 2
    return module(nn.functional.pad(x.transpose(1, 2), (before, after))).relu().transpose(1, 2)


def _bag(layer: fr.EmbeddingBag, mode: str) -> Any:
    return nn.EmbeddingBag(layer.num_embeddings, layer.embedding_dim, mode=mode, padding_idx=0)


def _weighted_average(module: Any, x: Any, lengths: Any, idf: Any) -> Any:
    weights = idf[x] * _valid(x, lengths)
    return module(x, per_sample_weights=weights) / weights.sum(1, keepdim=True)  # of weighted bags it only has sums


def _last_state(module: Any, x: Any, lengths: Any) -> Any:
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    _, state = module(packed)
    return torch.cat(tuple(state[0] if isinstance(state, tuple) else state), -1)


def _max_over_time(module: Any, x: Any, lengths: Any) -> Any:
    return (x if lengths is None else x.masked_fill(~_valid(x, lengths)[..., None], -torch.inf)).amax(1)


def _valid(x: Any, lengths: Any) -> Any:
    """Return which steps (N, L) are not padding."""
    return torch.arange(x.shape[1]) < lengths[:, None]
