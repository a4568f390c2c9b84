"""The house rules that a program can check: who imports whom, sizes, names, and what must never be written.

Each rule is a function from a source to a list of faults. It is tried on small made-up sources that break it
and that keep it, then on every file of the project.
"""

import ast
import re
import sys
from collections.abc import Callable
from functools import cache, lru_cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CODE_FOLDERS = ("swin_core", "dashboard", "scripts", "tests", "assets")

# The units of swin_core from the bottom to the top. A file imports its own unit and those of lower lines.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("class_names",),
    ("system", "images"),
    ("models",),
    ("weights", "data", "runs"),
    ("zoo",),
    ("attribution", "evaluation"),
    ("trust", "anatomy", "training"),
    ("audit",),
    ("figures",),
    ("comparisons",),
    ("reports",),
    ("reproduction",),
    ("commands",),
)
LEVELS = {unit: level for level, units in enumerate(LAYERS) for unit in units}
SECTIONS = ("compare", "browse", "inside", "train", "models", "audit", "demo")
"""Folders of the dashboard that do not import each other; all of them import `dashboard.shared`."""

# `runs` is imported by programs that must start quickly: beside the standard library it may import these.
FEW_PACKAGES = {"runs": {"psutil", "filelock", "pynvml", "pydantic"}}
INTERFACE_PACKAGES = ("streamlit", "gradio", "matplotlib.pyplot", "dashboard", "scripts", "tests")

FILE_LINES, FUNCTION_LINES = 450, 70
BANNED_WORDS = {"util", "utils", "helper", "helpers", "manager", "managers", "process", "processes"}
BANNED_WORDS |= {"handle", "handles", "misc"}

# Written in two pieces, so that this file does not break its own rule.
MACHINE_PATH = re.compile(
    r"(?<![\w.<>])/" + r"(work|root|home|Users)/\w|\bC:\\" + r"Users|\bshared/(data|design|seed)\b"
)


@lru_cache(maxsize=1)  # one rule after the other looks at the same file
def nodes_of(source: str) -> list[ast.AST]:
    """All nodes of a source's tree."""
    return [*ast.walk(ast.parse(source))]


@cache
def imported_modules(source: str, package: str) -> tuple[str, ...]:
    """Dotted names that `source` imports anywhere, lazily too; `package` resolves relative imports.

    `from a import b` gives `a.b`, since b may be a module. `import_module` and `__import__` count if their argument is
    written out.
    """
    found: list[str] = []
    names = originals(nodes_of(source))
    for node in nodes_of(source):
        if isinstance(node, ast.Call) and (module := called_import(node, names, package)):
            found.append(module)
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            found += [f"{base}.{alias.name}" for alias in node.names]
    return tuple(found)


def originals(nodes: list[ast.AST]) -> dict[str, str]:
    """The dotted name behind each name that a tree imports."""
    names = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def written(node: ast.AST) -> str:
    """What `ast.unparse` gives; names and their attributes are most of what is asked for, and it is slow."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
        return f"{written(node.value)}.{node.attr}"
    return ast.unparse(node)


def dotted(node: ast.AST, names: dict[str, str]) -> str:
    """A name or an attribute as it is written, with `names` for what its first part was imported as."""
    first, point, rest = written(node).partition(".")
    return names.get(first, first) + point + rest


def called_import(call: ast.Call, names: dict[str, str], package: str) -> str:
    """The module that a call of `import_module` or `__import__` names, else nothing."""
    functions = ("importlib.import_module", "importlib.__import__", "builtins.__import__", "__import__")
    if dotted(call.func, names) not in functions:
        return ""
    given = [*call.args, *(word.value for word in call.keywords if word.arg == "name")]
    module = given[0].value if given and isinstance(given[0], ast.Constant) else ""
    relative = str(module).lstrip(".")
    level = len(str(module)) - len(relative)
    parents = package.split(".")[: len(package.split(".")) - level + 1] if level else []
    return ".".join([*parents, *([relative] if relative else [])])


def starts_with(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def import_faults(path: str, source: str) -> list[str]:
    """Imports in the file at `path` (relative to the root) that point the wrong way."""
    parts = Path(path).with_suffix("").parts
    modules = imported_modules(source, ".".join(parts[:-1]))
    if parts[0] == "swin_core":
        # A `__main__` starts a command; nothing imports it.
        return core_import_faults(path, "commands" if parts[-1] == "__main__" else parts[1], modules)
    faults = []
    foreign = {"dashboard": ("scripts", "tests"), "scripts": ("dashboard", "tests")}.get(parts[0], ())
    section = parts[1] if parts[0] == "dashboard" and len(parts) > 2 else ""
    for module in modules:
        if any(starts_with(module, package) for package in foreign):
            faults.append(f"{path} imports {module}: only swin_core is shared")
        if section == "views" and starts_with(module, "torch"):
            faults.append(f"{path} imports {module}: pages hold widgets and layout, no tensors")
        parts_of_module = module.split(".")
        if section in (*SECTIONS, "shared") and parts_of_module[0] == "dashboard" and len(parts_of_module) > 1:
            foreign_section = parts_of_module[1] not in (section, "shared")
            faults += [f"{path} imports {module}: a section imports itself and dashboard.shared only"] * foreign_section
    return faults


def core_import_faults(path: str, unit: str, modules: tuple[str, ...]) -> list[str]:
    """The same for a file of swin_core; `unit` is its module or sub-package, such as `zoo` or `errors`."""
    if unit == "__init__":
        return [f"{path} imports {m}" for m in modules if any(starts_with(m, p) for p in INTERFACE_PACKAGES)]
    if unit not in LEVELS:
        return [f"{path}: {unit} has no place in LAYERS"]
    faults = []
    for module in modules:
        if any(starts_with(module, package) for package in INTERFACE_PACKAGES):
            faults.append(f"{path} imports {module}: swin_core knows no interface")
        first, *rest = module.split(".")
        if first == "swin_core":
            used = rest[0] if rest else "__init__"
            if used != unit and LEVELS.get(used, len(LAYERS)) >= LEVELS[unit]:
                faults.append(f"{path} imports swin_core.{used}: {unit} may not")
        elif unit in FEW_PACKAGES and first not in sys.stdlib_module_names | FEW_PACKAGES[unit]:
            few = ", ".join(sorted(FEW_PACKAGES[unit]))
            faults.append(f"{path} imports {module}: {unit} uses the standard library, {few} only")
    return faults


def outside_faults(path: str, source: str) -> list[str]:
    """Patches of `sys.path` anywhere, and paths in swin_core that lead out of the package."""
    faults = []
    names = originals(nodes_of(source))
    for node in nodes_of(source):
        if patches_path(node, names):
            faults.append(f"{path}:{node.lineno}: {ast.unparse(node)[:40]} patches the import path")
        if not path.startswith("swin_core/"):
            continue
        # Where a file or a package lies leads to what lies beside it; `parents[i]` leads up from any path.
        place = written(node) if isinstance(node, ast.Name | ast.Attribute) else ""
        indexed = written(node.value) if isinstance(node, ast.Subscript) else ""
        if re.search(r"(^|\.)__file__$", place) or re.search(r"(?<!__file__\)\.)\bparents$|__path__$", indexed):
            faults.append(f"{path}:{node.lineno}: bundled files come through importlib.resources")
        text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
        if re.match(r"\.\.(/|$)|(scripts|dashboard|tests|docs)/\S*$|(scripts|tests|docs)$", text):
            faults.append(f"{path}:{node.lineno}: {text!r} lies outside swin_core")
    return faults


PATH_CHANGES = {"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort", "__setitem__", "__delitem__"}


def patches_path(node: ast.AST, names: dict[str, str]) -> bool:
    """Whether a call, an assignment, a deletion or a slice changes `sys.path`. Reading it is allowed."""
    if isinstance(node, ast.Call):
        called = dotted(node.func, names)
        return called == "site.addsitedir" or called in {f"sys.path.{change}" for change in PATH_CHANGES}
    if isinstance(node, ast.Subscript) and dotted(node.value, names) == "sys.path":
        return isinstance(node.slice, ast.Slice) or not isinstance(node.ctx, ast.Load)
    return (
        isinstance(node, ast.Name | ast.Attribute)
        and not isinstance(node.ctx, ast.Load)
        and dotted(node, names) == "sys.path"
    )


def cycle(sources: dict[str, str]) -> list[str]:
    """The files of one import cycle, or nothing. `sources`: texts by path, relative to the root."""
    module_of = {".".join(Path(path).with_suffix("").parts).removesuffix(".__init__"): path for path in sources}
    graph: dict[str, set[str]] = {}
    for path, source in sources.items():
        found = set()
        for module in imported_modules(source, ".".join(Path(path).parts[:-1])):
            target = module_of.get(module) or module_of.get(module.rpartition(".")[0])
            if target and target != path:
                found.add(target)
        graph[path] = found
    # The public names of swin_core are imported when they are used: nothing below them may import them.
    graph.pop("swin_core/__init__.py", None)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def size_faults(path: str, source: str) -> list[str]:
    """Files and functions that are too long."""
    lines = len(source.splitlines())
    faults = [f"{path}: {lines} lines, at most {FILE_LINES}"] if lines > FILE_LINES else []
    for node in nodes_of(source):
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
    for node in nodes_of(source):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(node.name)
    return [f"{path}: {name} contains {word}" for name in names for word in sorted(words(name) & BANNED_WORDS)]


def pickle_faults(path: str, source: str) -> list[str]:
    """Calls that may run code from a file: torch.load without weights_only=True, and pickle's own loaders."""
    faults = []
    bare = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in nodes_of(source)
        if isinstance(node, ast.ImportFrom) and node.module in ("torch", "pickle")
        for alias in node.names
    }
    for node in nodes_of(source):
        if not isinstance(node, ast.Call):
            continue
        name = written(node.func)
        called = bare.get(name, name)
        options = {word.arg: ast.unparse(word.value) for word in node.keywords}
        if called == "torch.load" and options.get("weights_only") != "True":
            faults.append(f"{path}:{node.lineno}: torch.load without weights_only=True")
        if called in ("pickle.load", "pickle.loads") or options.get("allow_pickle") == "True":
            faults.append(f"{path}:{node.lineno}: {name} unpickles whatever the file says")
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

LAZY = ("from importlib import import_module, import_module as load\ndef draw():\n    ", "")
"""Around a call."""
BREAKS: list[tuple[Rule, str, str]] = [
    (import_faults, "swin_core/models/windows.py", "import swin_core.weights.files"),
    (import_faults, "swin_core/models/swin.py", "def build():\n    from swin_core.weights.files import load_weights"),
    (import_faults, "swin_core/models/swin.py", "from swin_core import weights"),
    (import_faults, "swin_core/models/swin.py", "from swin_core import build"),
    (import_faults, "swin_core/models/swin.py", "from .. import zoo"),
    (import_faults, "swin_core/zoo/load.py", "from ..attribution import gradcam"),
    (import_faults, "swin_core/images/read.py", "from swin_core.system import cache"),
    (import_faults, "swin_core/data/folders.py", "import swin_core.zoo.load"),
    (import_faults, "swin_core/training/trainer.py", "from ..figures import grid"),
    (import_faults, "swin_core/attribution/explain.py", "import swin_core.trust.assess"),
    (import_faults, "swin_core/figures/files.py", "import matplotlib.pyplot as plt"),
    (import_faults, "swin_core/figures/files.py", "from matplotlib import pyplot"),
    (import_faults, "swin_core/zoo/load.py", "import streamlit as st"),
    (import_faults, "swin_core/__init__.py", "from gradio import Blocks"),
    (import_faults, "swin_core/zoo/load.py", "from dashboard.shared.cache import models"),
    (import_faults, "swin_core/runs/listing.py", "import torch"),
    (import_faults, "swin_core/runs/files.py", "from swin_core.weights.files import read_config"),
    (import_faults, "swin_core/newcomer.py", ""),
    (import_faults, "dashboard/app.py", "from scripts import explain"),
    (import_faults, "scripts/explain.py", "import dashboard.shared.cache"),
    (import_faults, "swin_core/attribution/explanation.py", "import_module('swin_core.figures.grid')".join(LAZY)),
    (import_faults, "swin_core/attribution/explanation.py", "load('..figures', __package__)".join(LAZY)),
    (import_faults, "swin_core/models/swin.py", "import importlib as i\ni.import_module('swin_core.audit')"),
    (import_faults, "swin_core/models/swin.py", "__import__('swin_core.weights.files')"),
    (import_faults, "dashboard/shared/cache.py", "from importlib import *\n__import__(name='dashboard.compare')"),
    (import_faults, "dashboard/views/compare.py", "from torch import Tensor"),
    (import_faults, "dashboard/browse/sheet.py", "from dashboard.compare.agreement import show_agreement"),
    (import_faults, "dashboard/shared/cache.py", "from dashboard.compare import agreement"),
    (import_faults, "dashboard/demo/page.py", "import dashboard.compare.agreement"),
    (outside_faults, "scripts/train.py", "import sys\nsys.path.insert(0, '..')"),
    (outside_faults, "tests/conftest.py", "import sys\nsys.path = ['..', *sys.path]"),
    (outside_faults, "tests/conftest.py", "import sys\nsys.path += ['..']"),
    (outside_faults, "tests/conftest.py", "import sys\nsys.path[:0] = ['..']"),
    (outside_faults, "tests/conftest.py", "import sys\nsys.path[0] = '..'"),
    (outside_faults, "tests/conftest.py", "import sys\nold = sys.path[:]"),
    (outside_faults, "tests/conftest.py", "import sys\ndel sys.path[0]"),
    (outside_faults, "tests/conftest.py", "import sys as s\ns.path.append('..')"),
    (outside_faults, "tests/conftest.py", "from sys import path\npath.insert(0, '..')"),
    (outside_faults, "swin_core/zoo/load.py", "ASSETS = Path(__file__).parent / 'assets'"),
    (outside_faults, "swin_core/zoo/load.py", "import os\nROOT = os.path.dirname(os.path.dirname(__file__))"),
    (outside_faults, "swin_core/zoo/load.py", "import swin_core\nROOT = Path(swin_core.__file__).parent.parent"),
    (outside_faults, "swin_core/zoo/load.py", "import swin_core\nROOT = Path(swin_core.__path__[0]).parent"),
    (outside_faults, "swin_core/zoo/load.py", "ROOT = Path(code.co_filename).parents[2]"),
    (outside_faults, "swin_core/zoo/load.py", "ROOT = Path(__file__).parents[2]"),
    (outside_faults, "swin_core/zoo/load.py", "folder = files('swin_core') / '..' / 'assets'"),
    (outside_faults, "swin_core/runs/starting.py", "script = root / 'scripts'"),
    (outside_faults, "swin_core/runs/starting.py", "script = root / 'scripts/train.py'"),
    (outside_faults, "swin_core/zoo/load.py", "folder = '../assets'"),
    (size_faults, "swin_core/models/swin.py", "x = 0\n" * (FILE_LINES + 1)),
    (size_faults, "swin_core/models/swin.py", "def build():\n" + "    x = 0\n" * FUNCTION_LINES),
    (size_faults, "swin_core/models/swin.py", "class Swin:\n  async def build():\n" + "    x = 0\n" * FUNCTION_LINES),
    (name_faults, "swin_core/image_utils.py", ""),
    (name_faults, "swin_core/helpers/image.py", ""),
    (name_faults, "swin_core/models/swin.py", "def process_image(): pass"),
    (name_faults, "swin_core/models/swin.py", "class HookManager: pass"),
    (name_faults, "swin_core/models/swin.py", "class Swin:\n    def handle(self): pass"),
    (pickle_faults, "swin_core/weights/files.py", "import torch\ntorch.load(path)"),
    (pickle_faults, "swin_core/weights/files.py", "import torch\ntorch.load(path, weights_only=False)"),
    (pickle_faults, "swin_core/weights/files.py", "from torch import load as read\nread(path)"),
    (pickle_faults, "swin_core/data/dataset.py", "import pickle\npickle.loads(data)"),
    (pickle_faults, "swin_core/data/dataset.py", "import numpy as np\nnp.load(path, allow_pickle=True)"),
    (path_faults, "swin_core/data/dataset.py", "ROOT = '/ho" + "me/someone/data'"),
    (path_faults, "README.md", "see sha" + "red/design"),
    (path_faults, ".ci/run", "sha" + "red/data\nsha" + "red/data"),
]
KEEPS: list[tuple[Rule, str, str]] = [
    (import_faults, "swin_core/models/swin.py", "import torch\nfrom swin_core.models.windows import window_partition"),
    (import_faults, "swin_core/attribution/gradcam.py", "from swin_core.zoo.load import load\nfrom . import layers"),
    (import_faults, "swin_core/figures/files.py", "from matplotlib.figure import Figure"),
    (import_faults, "swin_core/training/trainer.py", "from swin_core import data, models, weights"),
    (import_faults, "swin_core/runs/listing.py", "import os\nimport psutil\nfrom swin_core.errors import ConfigError"),
    (import_faults, "swin_core/__init__.py", "from swin_core.attribution.explain import explain"),
    (import_faults, "swin_core/training/__main__.py", "from swin_core.commands.train import main"),
    (import_faults, "dashboard/views/compare.py", "import swin_core\nfrom dashboard.shared import cache"),
    (import_faults, "dashboard/views/compare.py", "from dashboard.compare import agreement"),
    (import_faults, "dashboard/shared/cache.py", "import torch"),
    (outside_faults, "swin_core/zoo/load.py", "folder = files('swin_core') / 'assets'"),
    (import_faults, "swin_core/commands/__init__.py", "import_module('swin_core.reports')".join(LAZY)),
    (import_faults, "swin_core/attribution/methods.py", "import_module(f'{__name__}.figures')".join(LAZY)),
    (outside_faults, "tests/conftest.py", "import sys\nfirst = sys.path[0]\nroots = [p for p in sys.path if p]"),
    (outside_faults, "swin_core/attribution/methods.py", "iter_modules(attribution.__path__)"),
    (outside_faults, "swin_core/commands/dashboard.py", "spec = find_spec('dashboard')"),
    (size_faults, "swin_core/models/swin.py", "def build():\n" + "    x = 0\n" * (FUNCTION_LINES - 1)),
    (size_faults, "swin_core/models/swin.py", "x = 0\n" * FILE_LINES),
    (name_faults, "swin_core/models/swin.py", "def preprocess(): pass\nclass Handlebar: pass"),
    (pickle_faults, "swin_core/weights/files.py", "import torch\ntorch.load(path, weights_only=True)"),
    (pickle_faults, "swin_core/data/dataset.py", "import numpy as np\nnp.load(path, allow_pickle=False)"),
    (path_faults, "README.md", "put it under data/root/photos, see https://example.org/home/page"),
    (path_faults, ".ci/run", "sha" + "red/data"),
]


@pytest.mark.parametrize(("rule", "path", "source"), BREAKS)
def test_rule_finds_the_fault(rule: Rule, path: str, source: str) -> None:
    assert len(rule(path, source)) == 1


@pytest.mark.parametrize(("rule", "path", "source"), KEEPS)
def test_rule_accepts_what_is_right(rule: Rule, path: str, source: str) -> None:
    assert rule(path, source) == []


RULES = (import_faults, outside_faults, size_faults, name_faults, pickle_faults)


@pytest.fixture(scope="module")
def faults() -> dict[Rule, list[str]]:
    """What each rule finds in all files: file by file, since reading one into a tree takes longer than a rule."""
    files = code_files()
    assert {"swin_core/errors.py", "swin_core/attribution/explain.py", "tests/test_layering.py"} <= set(files)
    found: dict[Rule, list[str]] = {rule: [] for rule in RULES}
    for path in files:
        source = (ROOT / path).read_text(encoding="utf-8")
        for rule in RULES:
            found[rule] += rule(path, source)
    return found


@pytest.mark.parametrize("rule", RULES)
def test_code_keeps_the_rule(rule: Rule, faults: dict[Rule, list[str]]) -> None:
    assert not faults[rule], "\n".join(faults[rule])


def test_a_cycle_is_found() -> None:
    sources = {
        "swin_core/data/__init__.py": "",
        "swin_core/data/folders.py": "from swin_core.data import cifar100",
        "swin_core/data/cifar100.py": "def read():\n    from swin_core.data.folders import names",
    }
    assert set(cycle(sources)) == {"swin_core/data/folders.py", "swin_core/data/cifar100.py"}
    sources["swin_core/data/cifar100.py"] = "import swin_core.data"
    assert cycle(sources) == []
    lazy = "from importlib import import_module\ndef read():\n    import_module('swin_core.data.folders').names()"
    sources["swin_core/data/cifar100.py"] = lazy
    assert len(cycle(sources)) == 3


def test_no_file_imports_itself_through_others() -> None:
    sources = {path: (ROOT / path).read_text(encoding="utf-8") for path in code_files()}
    assert not (found := cycle(sources)), " -> ".join(found)


def test_no_text_names_a_machine() -> None:
    files = text_files()
    assert {"README.md", ".ci/run", "scripts/start", "pyproject.toml"} <= set(files)
    faults = [fault for path in files for fault in path_faults(path, (ROOT / path).read_text(encoding="utf-8"))]
    assert not faults, "\n".join(faults)
