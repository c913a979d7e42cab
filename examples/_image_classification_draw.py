"""What a convolutional net has learned, as pictures: its first filters, and its feature maps of one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from _image_classification_data import Array

import fastrnn as fr

__all__ = ["draw"]

SHOWN = 16  # filters, and maps of each layer


def draw(model: fr.Sequential, picture: Array, path: Path) -> str:
    """Draw to a PNG; return a line that says where, or why not."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return "filters not drawn: matplotlib is not installed"
    rows = [("first filters", first_filters(model)), *feature_maps(model, picture)]
    figure = Figure(figsize=(10, 0.75 * len(rows)), layout="constrained")
    for axes, (name, images) in zip(figure.subplots(len(rows), squeeze=False)[:, 0], rows, strict=True):
        axes.imshow(_side_by_side(images[:SHOWN]), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.axis("off")
        axes.text(-0.01, 0.5, name, fontsize=7, ha="right", va="center", transform=axes.transAxes)
    figure.savefig(path, dpi=150)
    return f"filters and feature maps: {path}"


def first_filters(model: fr.Sequential) -> list[Array]:
    """Return the filters of the first convolution, (R, S) or in colour (R, S, 3)."""
    first = next(layer for layer in model if isinstance(layer, fr.Conv2d))
    return [_as_image(kernel) for kernel in first.weight]


def feature_maps(model: fr.Sequential, picture: Array) -> list[tuple[str, list[Array]]]:
    """Return, by layer, what each part of the model that changes the maps makes of a picture (C, H, W)."""
    x, found = picture[None], [("picture", [_as_image(picture)])]
    for index, layer in enumerate(model):
        x = layer(x)
        if x.ndim == 4 and isinstance(layer, (fr.ReLU, fr.MaxPool2d, fr.Residual)):
            found.append((f"{index} {type(layer).__name__}", list(x[0])))
    return found


def _as_image(maps: Array) -> Array:
    """Return (C, H, W) as matplotlib has it: in colour if C is 3, else the mean."""
    return maps.transpose(1, 2, 0) if len(maps) == 3 else maps.mean(0)


def _side_by_side(images: Sequence[Array]) -> Array:
    """Return a strip of SHOWN images with white between them, each stretched to the whole range from black to white."""
    height, width = images[0].shape[:2]
    gap = max(1, width // 8)
    strip = np.ones((height, SHOWN * (width + gap), *images[0].shape[2:]))
    for place, image in enumerate(images):
        low, high = image.min(), image.max()
        left = place * (width + gap)
        strip[:, left : left + width] = (image - low) / (high - low) if high > low else 0
    return strip
