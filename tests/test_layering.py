"""The house rules that a program can check: who imports whom, sizes, names, and what must never be written.

Each rule is a function from a source to a list of faults. It is tried on small made-up sources that break it
and that keep it, then on every file of the project.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CODE_FOLDERS = ("swin_core", "dashboard", "scripts", "tests", "assets")

# Who may import whom within swin_core. A module that is not listed has no place yet: add it here.
_MODEL = {"errors", "windows", "variants", "linear", "modes", "model"}
_WEIGHTS = {"atomic", "layouts", "fitting", "weights"}
_DATA = {"errors", "images", "preprocessing", "cifar", "data"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "class_names": {"errors"},
    "atomic": {"errors"},
    "preprocessing": {"errors"},
    "windows": {"errors"},
    "variants": {"errors"},
    "linear": {"errors"},
    "modes": {"errors"},
    "memory": set(),
    "palette": set(),
    "progress": set(),
    "world": {"errors"},
    "cache": set(),
    "model": _MODEL,
    "layouts": _MODEL,
    "complexity": _MODEL,
    "fitting": _MODEL | {"layouts"},
    "weights": _MODEL | _WEIGHTS,
    "lossless": set(),
    "images": {"errors", "lossless"},
    "cifar": {"errors", "images"},
    "data": _DATA,
    "downloads": _DATA,
    "four_classes": _DATA | {"downloads"},
    "catalog": _DATA,
    "confusion": {"errors"},
    "thumbnails": _DATA,
    "zoo": _MODEL | _DATA | _WEIGHTS | {"class_names", "runs", "cache"},
    "explain": _MODEL | _DATA | _WEIGHTS | {"class_names", "zoo", "progress", "world"},
    "runs": {"errors", "atomic"},
    "devices": {"errors", "runs"},
    "training": _MODEL | _DATA | _WEIGHTS | {"runs", "memory", "world"},
    "accuracy": _MODEL | _DATA | _WEIGHTS | {"class_names", "zoo", "explain", "training", "runs", "world"},
    "predictions": _MODEL | _DATA | _WEIGHTS | {"class_names", "zoo", "explain", "training", "accuracy", "runs"},
    "selection": _MODEL | _DATA | _WEIGHTS | {"class_names", "accuracy", "catalog", "confusion", "predictions"},
    "launch": _MODEL | _DATA | _WEIGHTS | {"zoo", "training", "runs", "world"},
    "figures": _MODEL | _DATA | _WEIGHTS | {"catalog", "explain", "palette", "runs", "training", "zoo"},
    "ablations": _MODEL | _DATA | _WEIGHTS | {"training", "accuracy", "runs", "launch", "zoo"},
    "cards": _MODEL | _DATA | _WEIGHTS | {"training", "accuracy", "runs"},
}
# What is there in a blink and knows no torch: beside the standard library it imports these and nothing else.
FEW_PACKAGES = {"runs": {"psutil", "filelock", "pynvml"}, "devices": {"psutil", "pynvml"}}
INTERFACE_PACKAGES = ("streamlit", "gradio", "matplotlib.pyplot", "dashboard", "scripts", "tests")

FILE_LINES, FUNCTION_LINES = 450, 60
BANNED_WORDS = {"util", "utils", "helper", "helpers", "manager", "managers", "process", "processes"}
BANNED_WORDS |= {"handle", "handles", "misc"}

# Written in two pieces, so that this file does not break its own rule.
MACHINE_PATH = re.compile(
    r"(?<![\w.<>])/" + r"(work|root|home|Users)/\w|\bC:\\" + r"Users|\bshared/(data|design|seed)\b"
)


def imported_modules(source: str, package: str) -> Iterator[str]:
    """Dotted names that `source` imports anywhere, lazily too; `package` resolves relative imports.

    `from a import b` gives `a.b`, since b may be a module.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def starts_with(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def import_faults(path: str, source: str) -> list[str]:
    """Imports in the file at `path` (relative to the root) that point the wrong way."""
    parts = Path(path).with_suffix("").parts
    modules = list(imported_modules(source, ".".join(parts[:-1])))
    if parts[0] == "swin_core":
        return core_import_faults(path, parts[1], modules)
    faults = []
    foreign = {"dashboard": ("scripts", "tests"), "scripts": ("dashboard", "tests")}.get(parts[0], ())
    for module in modules:
        if any(starts_with(module, package) for package in foreign):
            faults.append(f"{path} imports {module}: only swin_core is shared")
        if parts[0] == "scripts" and starts_with(module, "scripts"):
            faults.append(f"{path} imports {module}: no script imports another")
        if path.startswith("dashboard/views/") and starts_with(module, "torch"):
            faults.append(f"{path} imports {module}: pages hold widgets and layout, no tensors")
    return faults


def core_import_faults(path: str, unit: str, modules: list[str]) -> list[str]:
    """The same for a file of swin_core; `unit` is its module or sub-package, such as `zoo` or `explain`."""
    faults = []
    is_entry = unit == "commands" or path.endswith("/__main__.py")  # the top layer: calls everything, called by nothing
    if unit not in MAY_IMPORT and unit != "__init__" and not is_entry:
        faults.append(f"{path}: {unit} has no place in MAY_IMPORT")
    for module in modules:
        if any(starts_with(module, package) for package in INTERFACE_PACKAGES):
            faults.append(f"{path} imports {module}: swin_core knows no interface")
        first, *rest = module.split(".")
        if first == "swin_core" and unit != "__init__" and not is_entry:
            used = rest[0] if rest else "__init__"
            if used != unit and used not in MAY_IMPORT.get(unit, set()):
                faults.append(f"{path} imports swin_core.{used}: {unit} may not")
        elif unit in FEW_PACKAGES and first not in sys.stdlib_module_names | FEW_PACKAGES[unit] | {"swin_core"}:
            few = ", ".join(sorted(FEW_PACKAGES[unit]))
            faults.append(f"{path} imports {module}: {unit} uses the standard library, {few} only")
    return faults


def search_path_faults(path: str, source: str) -> list[str]:
    """Uses of `sys.path`: the project is installed, so nothing has to look for it."""
    return [
        f"{path}:{node.lineno}: sys.path is patched; install the project instead"
        for node in ast.walk(ast.parse(source))
        if not path.startswith("tests/") and isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path"
    ]


def outside_faults(path: str, source: str) -> list[str]:
    """Paths that start at a file of swin_core: bundled files come through importlib.resources."""
    return [
        f"{path}:{node.lineno}: Path(__file__) may lead out of the package; use importlib.resources"
        for node in ast.walk(ast.parse(source))
        if path.startswith("swin_core/") and isinstance(node, ast.Call) and ast.unparse(node) == "Path(__file__)"
    ]


def size_faults(path: str, source: str) -> list[str]:
    """Files and functions that are too long."""
    lines = len(source.splitlines())
    faults = [f"{path}: {lines} lines, at most {FILE_LINES}"] if lines > FILE_LINES else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                faults.append(f"{path}:{node.lineno}: {node.name} has {length} lines, at most {FUNCTION_LINES}")
    return faults


def words(name: str) -> set[str]:
    """The words of a snake-case or camel-case name, in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def name_faults(path: str, source: str) -> list[str]:
    """Files, folders, functions and classes whose name contains a word that says nothing."""
    names = [*Path(path).with_suffix("").parts]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(node.name)
    return [f"{path}: {name} contains {word}" for name in names for word in sorted(words(name) & BANNED_WORDS)]


def pickle_faults(path: str, source: str) -> list[str]:
    """Calls that may run code from a file: torch.load without weights_only=True, and pickle's own loaders."""
    faults = []
    tree = ast.parse(source)
    bare = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in ("torch", "pickle")
        for alias in node.names
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        written = ast.unparse(node.func)
        called = bare.get(written, written)
        options = {word.arg: ast.unparse(word.value) for word in node.keywords}
        if called == "torch.load" and options.get("weights_only") != "True":
            faults.append(f"{path}:{node.lineno}: torch.load without weights_only=True")
        if called in ("pickle.load", "pickle.loads") or options.get("allow_pickle") == "True":
            faults.append(f"{path}:{node.lineno}: {written} unpickles whatever the file says")
    return faults


def path_faults(path: str, text: str) -> list[str]:
    """Names of folders of one particular machine. `.ci/run` may name the data beside the checkout, once."""
    faults = [
        f"{path}:{number}: {found.group()} is a path of one machine"
        for number, line in enumerate(text.splitlines(), start=1)
        for found in MACHINE_PATH.finditer(line)
    ]
    return faults[1:] if path == ".ci/run" else faults


def code_files() -> list[str]:
    """Every Python file of the project, relative to the root."""
    return sorted(str(path.relative_to(ROOT)) for folder in CODE_FOLDERS for path in (ROOT / folder).rglob("*.py"))


def text_files() -> list[str]:
    """Every text file of the project, relative to the root."""
    kinds = {"", ".py", ".sh", ".md", ".toml", ".txt", ".json", ".css", ".yml"}
    folders = [ROOT / folder for folder in (*CODE_FOLDERS, ".ci")]
    found = [path for folder in folders for path in folder.rglob("*") if "__pycache__" not in path.parts]
    paths = [
        path for path in [*found, *ROOT.iterdir()] if path.is_file() and path.suffix in kinds and path.name != ".git"
    ]
    return sorted(str(path.relative_to(ROOT)) for path in paths)


Rule = Callable[[str, str], list[str]]

BREAKS: list[tuple[Rule, str, str]] = [
    (import_faults, "swin_core/windows.py", "import swin_core.model"),
    (import_faults, "swin_core/model.py", "def build():\n    from swin_core.weights import load_weights"),
    (import_faults, "swin_core/model.py", "from swin_core import weights"),
    (import_faults, "swin_core/model.py", "from swin_core import build"),
    (import_faults, "swin_core/model.py", "from . import zoo"),
    (import_faults, "swin_core/zoo.py", "from .explain import cam"),
    (import_faults, "swin_core/images.py", "from swin_core.data import cifar100"),
    (import_faults, "swin_core/data.py", "import swin_core.model"),
    (import_faults, "swin_core/training/engine.py", "from ..zoo import load"),
    (import_faults, "swin_core/zoo.py", "import swin_core.training"),
    (import_faults, "swin_core/explain/figure.py", "import matplotlib.pyplot as plt"),
    (import_faults, "swin_core/explain/figure.py", "from matplotlib import pyplot"),
    (import_faults, "swin_core/zoo.py", "import streamlit as st"),
    (import_faults, "swin_core/__init__.py", "from gradio import Blocks"),
    (import_faults, "swin_core/zoo.py", "from dashboard.cache import models"),
    (import_faults, "swin_core/runs.py", "import torch"),
    (import_faults, "swin_core/runs/listing.py", "import torch"),
    (import_faults, "swin_core/runs.py", "from swin_core.model import Swin"),
    (import_faults, "swin_core/devices.py", "import torch"),
    (import_faults, "swin_core/newcomer.py", ""),
    (import_faults, "dashboard/app.py", "from scripts import explain"),
    (import_faults, "scripts/explain.py", "import dashboard.cache"),
    (import_faults, "dashboard/views/compare.py", "from torch import Tensor"),
    (import_faults, "swin_core/launch.py", "from swin_core.commands.train import main"),
    (import_faults, "scripts/figures.py", "from scripts.explain import found_model"),
    (search_path_faults, "dashboard/app.py", "import sys\nsys.path.insert(0, '..')"),
    (outside_faults, "swin_core/zoo.py", "ASSETS = Path(__file__).parent.parent"),
    (size_faults, "swin_core/model.py", "x = 0\n" * 451),
    (size_faults, "swin_core/model.py", "def build():\n" + "    x = 0\n" * 60),
    (size_faults, "swin_core/model.py", "class Swin:\n  async def build():\n" + "    x = 0\n" * 60),
    (name_faults, "swin_core/image_utils.py", ""),
    (name_faults, "swin_core/helpers/image.py", ""),
    (name_faults, "swin_core/model.py", "def process_image(): pass"),
    (name_faults, "swin_core/model.py", "class HookManager: pass"),
    (name_faults, "swin_core/model.py", "class Swin:\n    def handle(self): pass"),
    (pickle_faults, "swin_core/weights.py", "import torch\ntorch.load(path)"),
    (pickle_faults, "swin_core/weights.py", "import torch\ntorch.load(path, weights_only=False)"),
    (pickle_faults, "swin_core/weights.py", "from torch import load as read\nread(path)"),
    (pickle_faults, "swin_core/data.py", "import pickle\npickle.loads(data)"),
    (pickle_faults, "swin_core/data.py", "import numpy as np\nnp.load(path, allow_pickle=True)"),
    (path_faults, "swin_core/data.py", "ROOT = '/ho" + "me/someone/data'"),
    (path_faults, "README.md", "see sha" + "red/design"),
    (path_faults, ".ci/run", "sha" + "red/data\nsha" + "red/data"),
]
KEEPS: list[tuple[Rule, str, str]] = [
    (import_faults, "swin_core/model.py", "import torch\nfrom swin_core.windows import window_partition"),
    (import_faults, "swin_core/explain/cam.py", "from swin_core.zoo import Classifier\nfrom . import layers"),
    (import_faults, "swin_core/explain/figure.py", "from matplotlib.figure import Figure"),
    (import_faults, "swin_core/training/engine.py", "from swin_core import data, model, weights"),
    (
        import_faults,
        "swin_core/runs.py",
        "import os\nimport psutil\nfrom swin_core.errors import ConfigError",
    ),
    (import_faults, "swin_core/__init__.py", "from swin_core.explain import explain"),
    (import_faults, "dashboard/views/compare.py", "import swin_core\nfrom dashboard import cache"),
    (import_faults, "dashboard/cache.py", "import torch"),
    (
        import_faults,
        "swin_core/commands/train.py",
        "from swin_core import launch\nfrom swin_core.commands import shell",
    ),
    (import_faults, "swin_core/training/__main__.py", "from swin_core.commands.train import main"),
    (outside_faults, "dashboard/app.py", "HERE = Path(__file__).parent"),
    (size_faults, "swin_core/model.py", "x = 0\n" * 390 + "def build():\n" + "    x = 0\n" * 59),
    (name_faults, "swin_core/model.py", "def preprocess(): pass\nclass Handlebar: pass"),
    (pickle_faults, "swin_core/weights.py", "import torch\ntorch.load(path, weights_only=True)"),
    (pickle_faults, "swin_core/data.py", "import numpy as np\nnp.load(path, allow_pickle=False)"),
    (path_faults, "README.md", "put it under data/root/photos, see https://example.org/home/page"),
    (path_faults, ".ci/run", "sha" + "red/data"),
]


@pytest.mark.parametrize(("rule", "path", "source"), BREAKS)
def test_rule_finds_the_fault(rule: Rule, path: str, source: str) -> None:
    assert len(rule(path, source)) == 1


@pytest.mark.parametrize(("rule", "path", "source"), KEEPS)
def test_rule_accepts_what_is_right(rule: Rule, path: str, source: str) -> None:
    assert rule(path, source) == []


@pytest.mark.parametrize(
    "rule", [import_faults, search_path_faults, outside_faults, size_faults, name_faults, pickle_faults]
)
def test_code_keeps_the_rule(rule: Rule) -> None:
    files = code_files()
    assert "swin_core/errors.py" in files
    assert "tests/test_layering.py" in files
    faults = [fault for path in files for fault in rule(path, (ROOT / path).read_text(encoding="utf-8"))]
    assert not faults, "\n".join(faults)


def test_no_text_names_a_machine() -> None:
    files = text_files()
    assert {"README.md", ".ci/run", "scripts/start", "pyproject.toml"} <= set(files)
    faults = [fault for path in files for fault in path_faults(path, (ROOT / path).read_text(encoding="utf-8"))]
    assert not faults, "\n".join(faults)
