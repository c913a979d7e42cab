"""Models for inference with fewer layers: normalisation and activations folded into the layers before them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from fastrnn._checks import FloatArray
from fastrnn.layers.batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from fastrnn.layers.conv import Conv1d, Conv2d, Conv3d
from fastrnn.layers.conv_transpose import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from fastrnn.layers.convolution import Convolution
from fastrnn.layers.layer import Layer
from fastrnn.layers.linear import Linear
from fastrnn.layers.sequential import Sequential

__all__ = ["fuse"]

BATCH_NORMS = (BatchNorm1d, BatchNorm2d, BatchNorm3d)
TRANSPOSED = (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)
CONVOLUTIONS = (Conv1d, Conv2d, Conv3d, *TRANSPOSED)


def fuse(model: Layer) -> Layer:
    """Return a copy of a model for inference, in which layers that follow each other in a `Sequential` are one where they can be.

    A batch normalisation with running statistics that follows a convolution, a transposed one or a dense layer of as many
    outputs, without an activation or gain between them, goes into that layer's weight and bias:

        scale = bn.weight / sqrt(running_var + eps)
        weight = scale * weight                         along the output channels
        bias = bn.bias + scale * (bias - running_mean)

    computed in float64 and rounded once. An activation layer that names itself in ``fused_activation`` then becomes the
    ``activation=`` of such a layer, if it has that option and none yet. After a dense layer the features are taken for the
    channels: a `BatchNorm1d` that has its channels in front of as many features must not be fused.

    The copy shares nothing with `model`, which is unchanged. It predicts as `model` does, up to roundings; where a channel's
    running variance is zero with ``eps=0`` both give NaN or infinities. Train the original: the folded statistics no longer
    move.

    Parameters
    ----------
    model : Layer

    Returns
    -------
    fused : Layer, of the class of `model`. A `Sequential` has fewer layers and other parameter names.
    """
    return _fused(copy.deepcopy(model))


def _fused(layer: Layer) -> Layer:
    """Fuse a model that may be changed; layers inside it are replaced where they are attributes or in lists, tuples and dicts."""
    if isinstance(layer, Sequential):
        layer._layers = tuple(_joined([_fused(one) for one in layer]))
        return layer
    for name, value in list(vars(layer).items()):
        if name not in {"_parameters", "_buffers"}:
            new = _fused_in(value)
            if new is not value:
                setattr(layer, name, new)
    return layer


def _fused_in(value: Any) -> Any:
    """Return what an attribute holds with its layers fused; itself if it holds none."""
    if isinstance(value, Layer):
        return _fused(value)
    if not _holds_layers(value):
        return value
    if isinstance(value, dict):
        return {key: _fused_in(item) for key, item in value.items()}
    return type(value)(_fused_in(item) for item in value)


def _holds_layers(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    return type(value) in {list, tuple} and any(isinstance(item, Layer) or _holds_layers(item) for item in value)


def _joined(layers: list[Layer]) -> list[Layer]:
    """Return the layers of a `Sequential`, each joined with the one before it where that can be."""
    result: list[Layer] = []
    for layer in layers:
        new = _pair(result[-1], layer) if result else None
        if new is None:
            result.append(layer)
        else:
            result[-1] = new
    return result


def _pair(first: Layer, second: Layer) -> Layer | None:
    """Return a new layer that predicts what `first` and then `second` do, or None."""
    if type(second) in BATCH_NORMS:
        return _with_norm(first, second)
    activation = second.fused_activation
    if activation is None or type(first) not in {*CONVOLUTIONS, Linear} or "gain" in first._parameters:
        return None
    if getattr(first, "activation", activation) is not None:  # it has one, or cannot have one
        return None
    return _rebuilt(first, first.state_dict(), activation=activation)


def _with_norm(first: Layer, norm: Any) -> Layer | None:
    if isinstance(first, Linear):
        fits = type(first) is Linear and type(norm) is BatchNorm1d and first.out_features == norm.num_features
    elif isinstance(first, Convolution):
        fits = type(first) in CONVOLUTIONS and "gain" not in first._parameters
        fits &= (first.S, first._last, first.out_channels) == (norm.S, norm._last, norm.num_features)
    else:
        return None
    fits &= norm.track_running_stats and getattr(first, "activation", None) is None and first.dtype == norm.dtype
    return _rebuilt(first, _folded(first, norm)) if fits else None


def _folded(first: Any, norm: Any) -> dict[str, FloatArray]:
    """Return weight and bias with a normalisation in them."""
    C = norm.num_features
    weight = first._parameters["weight"].data.astype(np.float64)
    bias = np.zeros(C) if first.bias is None else first.bias.astype(np.float64)
    factor, start = (norm.weight, norm.bias) if norm.affine else (np.ones(C), np.zeros(C))
    with np.errstate(all="ignore"):  # infinities and NaN are answers here
        scale = factor.astype(np.float64) / np.sqrt(norm.running_var.astype(np.float64) + norm.eps)
        bias = start.astype(np.float64) + scale * (bias - norm.running_mean.astype(np.float64))
        if type(first) in TRANSPOSED:  # (C, K / groups, ...): the outputs of each group lie along the second axis
            groups = first.groups
            parts = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
            weight = (parts * scale.reshape(groups, 1, -1, *(1,) * (weight.ndim - 2))).reshape(weight.shape)
        else:
            weight = weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
    return {"weight": weight, "bias": bias}


def _rebuilt(layer: Layer, values: dict[str, FloatArray], **changes: Any) -> Layer:
    """Return a layer like `layer` with these parameters."""
    config = layer.config() | {"bias": "bias" in values} | changes
    new = type(layer).from_config(config)
    new.load_state_dict(values)
    return new
