"""Classifiers of the user's own code: `my_model.py` with a function `load() -> swin_core.Classifier`.

Loading runs the file, so only the person at the shell may name one: pages offer the files of `SWINLENS_MODELS` alone.
"""

import ast
import importlib.util
import sys
import traceback
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from swin_core.errors import ModelError
from swin_core.zoo.classifier import Classifier

SUFFIX = ".py"


def is_python(name: str | Path) -> bool:
    """Return whether a model's name is that of a Python file; `FILE#ENTRY` is an entry of a weights file."""
    return Path(name).suffix.lower() == SUFFIX and "#" not in str(name)


def load_python(file: Path) -> Classifier:
    """Run a Python file and return the classifier that its `load()` returns.

    Raises:
        ModelError: the file cannot be run, has no `load`, or this fails; the message names file and line.
    """
    if not file.is_file():
        raise ModelError(f"there is no file {str(file)[:80]!r}; give the path of a Python file with a function load().")
    file = file.absolute()  # tracebacks name it so
    name = f"swinlens_model_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ModelError(f"{file.name} cannot be run as Python; name its file with the suffix {SUFFIX}.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look for the module of a class
    try:
        with _Neighbours(file.parent):
            spec.loader.exec_module(module)
            make = getattr(module, "load", None)
            loaded = make() if callable(make) else None
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        raise ModelError(_located(file, error)) from error
    if not callable(make):
        raise ModelError(f"{file.name} has no function load(); define one that returns a swin_core.Classifier.")
    if not isinstance(loaded, Classifier):
        raise ModelError(
            f"load() in {file.name} returns {type(loaded).__name__}; it must return a swin_core.Classifier."
        )
    return loaded


class _Neighbours:
    """Finder of the modules beside a file, after all that are installed.

    Modules that it found are forgotten when its block ends: two models may each have a module `net` beside them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found: set[str] = set()

    def find_spec(self, name: str, path: Any = None, _: Any = None) -> ModuleSpec | None:
        """Return the spec of a top-level module in the folder, or None."""
        spec = PathFinder.find_spec(name, [str(self.folder)]) if path is None else None
        if spec is not None:
            self.found.add(name)
        return spec

    def __enter__(self) -> None:
        PathFinder.invalidate_caches()  # a file may have been written a moment ago
        sys.meta_path.append(self)

    def __exit__(self, *_: object) -> None:
        sys.meta_path.remove(self)
        for name in [name for name in sys.modules if name.partition(".")[0] in self.found]:
            del sys.modules[name]


def describe_python(file: Path) -> str:
    """Return the first line of a file's docstring, or its name; the file is not run.

    Raises:
        ModelError: the file cannot be read, or is no Python.
    """
    try:
        docstring = ast.get_docstring(ast.parse(file.read_bytes(), str(file)))
    except (OSError, SyntaxError, ValueError) as error:
        raise ModelError(_located(file, error)) from error
    return (docstring or f"model of {file.name}").splitlines()[0]


def _located(file: Path, error: BaseException) -> str:
    """Return an error in one line, with the last line of the file that led to it."""
    lines = [entry.lineno for entry in traceback.extract_tb(error.__traceback__) if entry.filename == str(file)]
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == str(file) else (lines or [None])[-1]
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())[:200]
    advice = ""
    if isinstance(error, ModuleNotFoundError):
        advice = "; install it, or name the folder of your own modules in PYTHONPATH"
    where = file.name if line is None else f"{file.name}, line {line}"
    return f"{where}: {type(error).__name__}{': ' if text else ''}{text}{advice}"
