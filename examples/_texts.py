"""Text to learn from: a file, or what comes with every Python: help topics, and docstrings of the standard library."""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from _command_line import InputError

__all__ = ["SUBJECTS", "docstrings", "read_file", "read_text"]

# Modules and packages of the standard library by their subject.
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


def read_text(path: str | None) -> str:
    """Return the text of a UTF-8 file, or without a path that of the help topics."""
    if path is None:
        return _help_topics()
    text = read_file(path)
    if not text:
        raise InputError(f"{path} is empty")
    return text


def read_file(path: str) -> str:
    """Return what is in a UTF-8 file."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read {path}: it is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def _help_topics() -> str:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise InputError("this Python comes without pydoc_data.topics: name a text of your own") from error
    return "\n\n".join(topics[name] for name in sorted(topics))


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
