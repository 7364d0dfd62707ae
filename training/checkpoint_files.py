"""Files of checkpoints: written atomically and sealed, read with `weights_only=True` alone."""

import os
import shlex
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from common.files import replacing
from common.sealed import damage, is_sealed, seal
from training.checkpoint_contents import check_finite, problem
from training.kept import BEST, LAST, newest_whole

__all__ = ["BEST", "LAST", "AtomicCheckpointIO", "find_checkpoint", "network_weights"]
__all__ += ["read_checkpoint", "refusal"]

SEALED = "sealed"  # the key by which a checkpoint says that its file has a digest


class AtomicCheckpointIO(TorchCheckpointIO):
    """A checkpoint appears under its name complete or not at all, sealed, and survives a power cut.

    Lightning's own writer stages the file in the temporary directory (a move between file systems
    is not atomic) and swallows a refused write.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write it to a file beside `path`, which takes that name when it is whole.

        The directory is made, the one above it is not: a run that has vanished stays so. OSError
        where it cannot be written, Diverged where its weights or moments are not finite: the file
        of before stays.
        """
        path = Path(path)
        check_finite(checkpoint)
        path.parent.mkdir(exist_ok=True)
        with replacing(path) as file:
            try:
                torch.save({**checkpoint, SEALED: True}, file)
            except RuntimeError as error:  # torch's own words for a write that failed
                raise _cause(error) from error
            seal(file)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """What a run goes on from; the arguments beside `path` change nothing."""
        return read_checkpoint(Path(path), "resume")


def find_checkpoint(path: str | Path, key: str = "checkpoint") -> Path:
    """The checkpoint file that `path` means: itself, or the best one of a run directory.

    Raises ValueError, naming the config key `key`, where there is none.
    """
    path = Path(path)
    found = path / "checkpoints" / BEST
    for file in (path, found):
        if os.path.isfile(file):
            return file
    what, way_out = "no such file or directory", ""
    if os.path.isdir(path):
        what, way_out = f"no checkpoints/{BEST} and no config.json in there", _way_out(found, key)
    elif os.path.exists(path):
        what = "neither a directory nor a regular file"
    way_out = way_out or (
        f"; give a run directory that holds checkpoints/{BEST}, or a folder in Hugging Face's "
        "layout"
    )
    raise ValueError(f"{key}={path}: {what}{way_out}")


def read_checkpoint(path: Path, key: str = "checkpoint") -> dict[str, Any]:
    """The checkpoint's plain contents on the CPU, checked; nothing in it can run code.

    Raises ValueError, naming the config key `key`, for a file that is damaged or not one of ours;
    with the key `resume` also for one that lacks what training goes on from.
    """
    try:
        contents = _checked(path, resumed=key == "resume")
    except ValueError as error:
        raise ValueError(f"{key}={path}: {error}{_advice(path, key)}") from error
    contents.pop(SEALED, None)
    return contents


def refusal(path: Path) -> str | None:
    """Why training cannot go on from a checkpoint, in a few words; None where it can."""
    try:
        _checked(path, resumed=True)
    except ValueError as error:
        return str(error)
    return None


def network_weights(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The state dict of the plain network, without the Lightning module's prefix."""
    prefix = "net."
    return {
        key.removeprefix(prefix): value
        for key, value in checkpoint["state_dict"].items()
        if key.startswith(prefix)
    }


def _checked(path: Path, *, resumed: bool) -> dict[str, Any]:
    """A checkpoint's contents; ValueError with what is wrong with it."""
    if wrong := damage(path):
        raise ValueError(f"damaged, or not a checkpoint ({wrong})")
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever a foreign file makes it
        raise ValueError(f"damaged, or not a checkpoint ({_first_line(error)})") from error
    if wrong := problem(contents, resumed=resumed):
        raise ValueError(f"not a whole checkpoint ({wrong})")
    if SEALED in contents and not is_sealed(path):
        raise ValueError("damaged (its digest has been taken off)")
    assert isinstance(contents, dict)
    return contents


def _advice(path: Path, key: str) -> str:
    """What works instead: the newest whole one beside it, if there is one."""
    return _way_out(path, key) or "; give a run directory or one of its checkpoints"


def _way_out(path: Path, key: str) -> str:
    other = newest_whole(path.parent, but=path)
    return f"; the newest whole one is {shlex.quote(f'{key}={other}')}" if other else ""


def _first_line(error: Exception) -> str:
    """Of what torch says, without its advice on `weights_only`, which is no way out here."""
    if "weights_only" in str(error).lower() or "Weights only" in str(error):
        return "it holds more than tensors and plain data"
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _cause(error: BaseException) -> BaseException:
    """The OSError that `error` was raised over, or itself."""
    over = error.__context__
    while over is not None and not isinstance(over, OSError):
        over = over.__context__
    return over or error
