"""Packages that an example needs beside fastrnn."""

from __future__ import annotations

import importlib
from typing import Any

from _char_lm_data import InputError

__all__ = ["require"]

NAMES = {"PIL": "pillow", "sklearn": "scikit-learn"}  # to install what is imported by another name
EXTRA = 'pip install "fastrnn[examples]"'


def require(module: str) -> Any:
    """Return a module, imported now; if it is not installed, say how to do that."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".", maxsplit=1)[0]
        name = NAMES.get(package, package)
        how = "pip install torch" if package == "torch" else EXTRA
        raise InputError(f"{name} is not installed: {how}") from error
