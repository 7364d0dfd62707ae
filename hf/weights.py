"""The tensors of a folder: one safetensors file, or several with an index.

Nothing is read but what is asked for, tensor by tensor, and no file stays open or mapped.
Pickles (`pytorch_model.bin`) are never read: to load one is to run it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf.files import read_json

if TYPE_CHECKING:
    from torch import Tensor

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16", "F64": "float64"}


@dataclass(frozen=True)
class Stored:
    """A tensor in a file, not yet read."""

    file: Path
    name: str  # in the file
    shape: tuple[int, ...]
    dtype: str  # F32, BF16, ...

    def read(self, where: str) -> Tensor:
        """The tensor, as a view of the file that lasts as long as it does."""
        with _opened(self.file, where) as file:
            return file.get_tensor(self.name)


def stored_weights(
    directory: Path, called: Callable[[str], str | None], where: str
) -> dict[str, Stored]:
    """Every tensor of a folder, by what `called` calls it; None leaves it out.

    Raises ValueError where there is no safetensors file, where one is damaged, and where the index
    names a file or a tensor that is not there.
    """
    stored = {}
    for file, names in _files(directory, where).items():
        with _opened(file, where) as opened:
            there = set(opened.keys())
            for name in sorted(there if names is None else names):
                if name not in there:
                    raise ValueError(f"{where}: {INDEX} has {name} in {file.name}, which lacks it")
                known = called(name)
                if known is not None:
                    part = opened.get_slice(name)
                    shape, dtype = tuple(part.get_shape()), part.get_dtype()
                    stored[known] = Stored(file, name, shape, dtype)
    return stored


def _files(directory: Path, where: str) -> dict[Path, set[str] | None]:
    """The files with weights, and the tensors that each is asked for; None: all of it."""
    if (directory / SINGLE).is_file():
        return {directory / SINGLE: None}
    if not (directory / INDEX).is_file():
        raise ValueError(f"{where}: {_no_weights(directory)}")
    index = read_json(directory / INDEX, where).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise ValueError(f"{where}: {INDEX} has no weight_map of tensors and their files")
    files: dict[Path, set[str] | None] = {}
    for name, file in index.items():
        plain = isinstance(file, str) and Path(file).name == file and "\\" not in file
        if not plain or not file.endswith(".safetensors"):
            raise ValueError(
                f"{where}: {INDEX} has {name} in {file!r}: must be a safetensors file beside it"
            )
        path = directory / file
        if not path.is_file():
            raise ValueError(f"{where}: {INDEX} names {file}, which is not there")
        names = files.setdefault(path, set())
        assert names is not None
        names.add(name)
    return files


def _no_weights(directory: Path) -> str:
    if sorted(directory.glob("*.bin")) or sorted(directory.glob("*.pt*")):
        return (
            f"has its weights in pickles, which are never read; write {SINGLE} with transformers: "
            f"AutoModelForCausalLM.from_pretrained({str(directory)!r}).save_pretrained('NEW')"
        )
    return f"has neither {SINGLE} nor {INDEX}"


@contextmanager
def _opened(path: Path, where: str) -> Iterator[Any]:
    """A safetensors file, whose errors are ValueErrors that name it."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{where}: {path.name} is damaged, cut short or unreadable ({error})"
        ) from error
