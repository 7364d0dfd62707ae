"""What a run is called whose user gave it no name: its text, recipe, model and backend.

In a sweep the parts that differ between its jobs are left out, so that all of them have one name.
"""

import re
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

from cli.errors import user_errors
from cli.overrides import Overrides

LONGEST = 100  # bytes, of a name or of a job's label
# The keys that a part hangs on. An experiment may choose any of them.
_TEXT = {"data", "data.corpus", "data.path", "experiment"}
_RECIPE = {"data", "experiment"}
_MODEL = {"model", "experiment"}
_BACKEND = {"rope", "rope.backend", "position", "trainer.accelerator", "experiment"}


def default_name(config: dict[str, Any], overrides: Overrides) -> str:
    """`stdlib-nano-pytorch`; `sweep` where all of that differs between the jobs.

    `config` is complete but for the name. UserError where the device or backend is not there.
    """
    swept, choices = set(overrides.swept), overrides.choices
    parts = [
        "" if swept & _TEXT else _text(config["data"]),
        "" if swept & _RECIPE else _recipe(config["data"], overrides),
        "" if swept & _MODEL else choices.get("model") or "",
        "" if swept & _BACKEND else _backend(config),
    ]
    parts = [clean(part) for part in parts]
    return cut("-".join(filter(None, parts)), LONGEST) or "sweep"


def clean(text: str) -> str:
    """A text as a part of a name: letters, digits and `.+-_`."""
    return re.sub(r"[^\w.+-]+", "_", text).strip("._-")


def cut(text: str, most: int) -> str:
    """The beginning of a text that has at most so many bytes."""
    return text.encode()[:most].decode(errors="ignore")


def _text(data: dict[str, Any]) -> str:
    """The corpus; of a text by its path, the name of its file or folder without the ending."""
    path = data.get("path")
    if data["corpus"] not in ("text", "huggingface") or not path:
        return str(data["corpus"])
    path = urlsplit(path).path if "://" in path else path
    names = [part for part in PurePath(path).parts if not set(part) & set("*?[")]
    return cut(clean(PurePath(names[-1]).stem), 40) if names else "text"


def _recipe(data: dict[str, Any], overrides: Overrides) -> str:
    """The experiment, or the option of the data, where it says more than the text's name."""
    experiment, option = (overrides.choices.get(group) for group in ("experiment", "data"))
    if "data.corpus" in overrides.typed:
        option = None
    chosen = experiment or option or ""
    return "" if chosen in (data["corpus"], "text") else chosen


def _backend(config: dict[str, Any]) -> str:
    """The one that will rotate; without a rotation, the position method."""
    if config["position"] != "rope":
        return str(config["position"])
    from kernels import resolve_backend
    from training import pick_device

    with user_errors():
        device = pick_device(config["trainer"]["accelerator"])
        return resolve_backend(config["rope"]["backend"], device)
