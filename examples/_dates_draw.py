"""Pictures of where a decoder looked while it wrote."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any
from unicodedata import bidirectional

from _dates_data import Pair, Texts

__all__ = ["draw_attention"]

SHOWN = 3  # texts
LONGEST = 45  # characters that can be told apart in the picture
SPACE = "\N{OPEN BOX}"


def draw_attention(path: Path, model: Callable[..., Any], texts: Texts) -> str:
    """Draw the attention weights for some test pairs; return a line that says where, or why not.

    `model` takes tokens, lengths and a limit, and returns the tokens written and the weights (L, N, T).
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return "attention not drawn: matplotlib is not installed"
    pairs = _drawable(texts)
    if not pairs:
        return "attention not drawn: matplotlib's font lacks characters of all test pairs"
    figure = Figure(figsize=(11, 3.4 * len(pairs)), layout="constrained")
    for axes, pair in zip(figure.subplots(len(pairs), squeeze=False)[:, 0], pairs, strict=True):
        (batch,) = texts.batches([pair], 1)
        tokens, weights = model(batch.source, batch.source_lengths, texts.limit)
        (written,) = texts.targets.decode(tokens)
        rows = [*written.replace(" ", SPACE), "end"][: len(weights)]
        image = axes.imshow(weights[:, 0], cmap="magma", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(pair.source)), list(pair.source.replace(" ", SPACE)))
        axes.set_yticks(range(len(rows)), rows)
        axes.set(title=f"{pair.source}  \N{RIGHTWARDS ARROW}  {written}", xlabel="read", ylabel="written")
        figure.colorbar(image, ax=axes, label="weight")
    figure.savefig(path, dpi=110)
    return f"attention: {path}"


def _drawable(texts: Texts) -> list[Pair]:
    """Return the first test pairs that read from left to right and have no character which the font lacks."""
    from matplotlib.font_manager import findfont, get_font

    drawn = get_font(findfont("DejaVu Sans")).get_charmap()

    def fits(text: str) -> bool:
        return all(ord(character) in drawn and bidirectional(character) not in {"R", "AL"} for character in text)

    fitting = (pair for pair in texts.test if len(pair.source) <= LONGEST and fits(pair.source + pair.target))
    return list(islice(fitting, SHOWN))
