"""Imports run downhill: no room knows one above it, nothing imports a command, no file a circle."""

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from commands import ROOT

# From the top down; a room may import itself and those below it.
ROOMS = (
    *("cli", "reports", "extras", "evaluation", "training", "benchmarks"),
    *("hf", "methods", "model", "data", "kernels", "common"),
)
COMMANDS = {path.stem for path in ROOT.glob("*.py")}
# What the rooms at the bottom may import beside the standard library, and what only in functions.
OUTSIDE = {"kernels": {"torch", "triton", "numpy"}, "common": {"matplotlib", "PIL"}}
IN_FUNCTIONS = {"matplotlib", "PIL"}  # all rooms: a command starts without them


class OfTypes(ast.NodeTransformer):
    """Takes out what stands under `if TYPE_CHECKING:` and is never run."""

    def visit_If(self, node: ast.If) -> ast.If | None:
        return None if ast.unparse(node.test) == "TYPE_CHECKING" else node


class AtStart(OfTypes):
    """Takes out functions too: what is left runs when the file is imported."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        return None


def imports(file: Path, root: Path, without: ast.NodeTransformer | None = None) -> Iterator[str]:
    """The absolute name of every module that `file` imports, wherever in the file that stands.

    Those that `without` takes out are left out.
    """
    package = file.relative_to(root).with_suffix("").parts[:-1]
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(without.visit(tree) if without else tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            yield module
            # `from model import scores` may name a file of the package.
            yield from (f"{module}.{alias.name}" for alias in node.names)


def broken_rules(root: Path) -> list[str]:
    """A line for every import in the rooms below `root` that the plan of the house forbids."""
    lines = []
    for height, room in enumerate(ROOMS):
        for file in sorted((root / room).rglob("*.py")):
            for module in imports(file, root):
                top = module.partition(".")[0]
                foreign = top not in (*ROOMS, *sys.stdlib_module_names)
                if top in ROOMS[:height] or top in COMMANDS:
                    lines.append(f"{file.relative_to(root)}: imports {module}, which is above it")
                elif foreign and room in OUTSIDE and top not in OUTSIDE[room]:
                    lines.append(f"{file.relative_to(root)}: imports {module}, which it may not")
                elif room in OUTSIDE and top in ROOMS and top != room:
                    lines.append(f"{file.relative_to(root)}: imports {module}, another room")
            for module in imports(file, root, AtStart()):
                if module.partition(".")[0] in IN_FUNCTIONS:
                    lines.append(f"{file.relative_to(root)}: imports {module} when it is imported")
    return lines


def graph(root: Path) -> dict[str, set[str]]:
    """Every file of the rooms, as a module, with the files that it imports.

    Who imports a file of a package does not depend on what the package's `__init__` gathers.
    """
    files = {
        ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file
        for room in ROOMS
        for file in (root / room).rglob("*.py")
    }
    named = {
        module: set(imports(file, root, OfTypes())) & files.keys() for module, file in files.items()
    }
    return {
        module: {name for name in names if not any(n.startswith(f"{name}.") for n in names)}
        for module, names in named.items()
    }


def circle(modules: dict[str, set[str]]) -> list[str] | None:
    """The files of one circle of imports; None where there is none."""
    try:
        TopologicalSorter(modules).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def test_imports_run_downhill() -> None:
    assert broken_rules(ROOT) == []


def test_there_is_no_circle() -> None:
    assert circle(graph(ROOT)) is None


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("model", "from methods.bend import bend"),
        ("data", "def f():\n    import extras.tasks"),
        ("kernels", "import lightning"),
        ("kernels", "from common.files import write_json"),
        ("common", "import numpy"),
        ("common", "from matplotlib.figure import Figure"),
        ("evaluation", "from train import main"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path: Path, room: str, line: str) -> None:
    (tmp_path / room).mkdir()
    (tmp_path / room / "file.py").write_text(line)
    assert broken_rules(tmp_path)


def test_a_circle_is_found(tmp_path: Path) -> None:
    for one, other in (("a", "b"), ("b", "a")):
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / f"model/{one}.py").write_text(f"from model import {other}")
    assert circle(graph(tmp_path))
