"""Docstrings of Python's standard library, a text that comes with every Python."""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator
from pathlib import Path

__all__ = ["SUBJECTS", "docstrings"]

# Modules and packages by their subject.
SUBJECTS = {
    "concurrency": ["asyncio", "concurrent", "multiprocessing", "threading"],
    "files": ["_pyio", "pathlib", "shutil", "tarfile", "tempfile", "zipfile"],
    "imports": ["importlib", "pkgutil", "zipimport"],
    "logging": ["logging"],
    "mail": ["email", "imaplib", "mailbox", "smtplib"],
    "numbers": ["_pydecimal", "fractions", "random", "statistics"],
    "testing": ["doctest", "unittest"],
    "web": ["http", "urllib", "wsgiref", "xmlrpc"],
    "xml": ["xml"],
}


def docstrings(subject: str) -> Iterator[str]:
    """Yield the docstrings of the modules of a subject, of their classes and functions, as far as they come with sources."""
    library = Path(sysconfig.get_path("stdlib"))
    for name in SUBJECTS[subject]:
        module = library / f"{name}.py"
        for path in [module] if module.exists() else sorted((library / name).rglob("*.py")):
            if "test" not in path.parts:
                yield from _docstrings(path.read_text(encoding="utf-8"))


def _docstrings(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield ast.get_docstring(node) or ""
