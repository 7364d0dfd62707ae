"""kernels/ as a package to take away: installed as `ropewalk`, beside the clone, copied loosely."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOT_SOURCES = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "runs", "shared")

# What a package has to do under any name, and what comes of it. Compiled graphs hold operators.
USE = """
import importlib, site, sys, torch

def results(name, graphs=True):
    rope = importlib.import_module(name)
    assert rope.__file__.startswith(sys.argv[1]) or name == "kernels", rope.__file__
    generator = torch.Generator().manual_seed(5)
    q = torch.randn(2, 5, 4, 8, generator=generator, requires_grad=True)
    k = torch.randn(2, 5, 2, 8, generator=generator, requires_grad=True)
    qkv = torch.randn(2, 5, 64, generator=generator, requires_grad=True)
    norm = torch.rand(8, generator=generator, requires_grad=True)

    def rotated(q, k, qkv, norm):
        packed = rope.rope_qkv(qkv, 4, 2, q_norm=norm, backend="triton")
        return (*rope.rope_triton(q, k, theta=500.0), *packed)

    functions, outcome = [rotated], list(rope.rope_pytorch(q, k, theta=500.0))
    if graphs:
        functions.append(torch.compile(rotated, fullgraph=True, backend="aot_eager"))
        phases = rope.rope_phases(rope.inverse_frequencies(8))
        operator = importlib.import_module(name + ".operators").OPS.rotate
        arguments = (q, k, phases, None, None, None, True, 1.0, False)
        torch.library.opcheck(operator, arguments)
    for function in functions:
        outputs = function(q, k, qkv, norm)
        outcome += [*outputs, *torch.autograd.grad(outputs, (q, k, qkv, norm), outputs)]
    torch.testing.assert_close(outcome[:2], outcome[2:4])
    return outcome

def assert_equal(results, expected):
    assert all(torch.equal(y, right) for y, right in zip(results, expected, strict=True))
"""

# A package that is installed already, and its finder, stand back for the one to be tested.
INSTALL = """
sys.meta_path[:] = [finder for finder in sys.meta_path if "__editable__" not in str(finder)]
for name in [name for name in sys.modules if name.startswith("__editable__")]:
    del sys.modules[name]
sys.path.insert(0, sys.argv[2])
site.addsitedir(sys.argv[2], known_paths=set())
# An editable install's finder comes last: pip would have removed the other installation.
sys.meta_path.sort(key=lambda finder: "__editable__" not in str(finder))
"""


def python(code: str, cwd: Path, *arguments: str | Path) -> None:
    """Run code in a process of its own that knows of the clone only if it starts there."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    run = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """A copy of the clone: building leaves folders behind."""
    pytest.importorskip("setuptools", minversion="77", reason="builds the package")
    return Path(
        shutil.copytree(ROOT, tmp_path_factory.mktemp("clone") / "sources", ignore=NOT_SOURCES)
    )


def built(kind: str, sources: Path, folder: Path) -> Path:
    """Where the wheel that pip would make lies unpacked; `kind` is wheel or editable."""
    code = f"import sys, setuptools.build_meta as b; b.build_{kind}(sys.argv[1])"
    python(code, sources, folder)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def site(sources, tmp_path_factory) -> Path:
    return built("wheel", sources, tmp_path_factory.mktemp("wheel"))


def files_of(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_kernels_and_nothing_else(site):
    assert "py.typed" in files_of(site / "ropewalk")
    assert files_of(site / "ropewalk") == files_of(ROOT / "kernels")
    assert {folder.name.partition("-")[0] for folder in site.iterdir()} == {"ropewalk"}


@pytest.mark.slow
def test_it_works_outside_the_clone_and_so_do_copies_under_other_names(site, tmp_path):
    for name in ("turning", "mine/rope_kernels"):
        shutil.copytree(ROOT / "kernels", tmp_path / name, ignore=NOT_SOURCES)
    shutil.copytree(site / "ropewalk", tmp_path / "ropewalk")
    code = (
        f"{USE}\n"
        "assert importlib.util.find_spec('kernels') is None\n"
        "expected = results('ropewalk', graphs=False)\n"
        "for name in ('turning', 'mine.rope_kernels'):\n"
        "    assert_equal(results(name, graphs=False), expected)\n"
    )
    python(code, tmp_path, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "names"),
    [("wheel", ("kernels", "ropewalk")), ("editable", ("ropewalk", "kernels"))],
)
def test_the_clone_and_the_installed_package_work_in_one_process(kind, names, sources, tmp_path):
    installed = built(kind, sources, tmp_path)
    code = (
        f"{USE}{INSTALL}\n"
        f"first, second = (results(name) for name in {names})\n"
        "assert_equal(first, second)\n"
        "import kernels, ropewalk; assert kernels is not ropewalk\n"
    )
    python(code, ROOT, installed if kind == "wheel" else sources, installed)
