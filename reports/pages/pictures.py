"""Pages and pictures as files: what a page is called, and pictures as parts of it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from common.figures import png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPORT = "report.html"  # the page of a run, and of a comparison
KINDS = {"png": "image/png", "svg": "image/svg+xml"}  # that a browser shows; a PDF it would not
MOST_BYTES = 1_400_000  # of pictures in a page, which is a third larger by that


class Picture(NamedTuple):
    """A picture, and what it shows in words: for whoever cannot see it."""

    source: str  # a data: address, or a file beside the page
    alt: str


def drawn(fig: Figure, alt: str) -> Picture:
    """A figure that was drawn for the page."""
    return Picture(_data("png", png(fig)), alt)


def lying_in(
    directory: Path, names: Mapping[str, str], formats: str | Sequence[str]
) -> list[Picture]:
    """The pictures that a run has left: `names` has what each shows, `formats` are their files'.

    Those that would make the page too large are shown from their files.
    """
    kinds = [formats] if isinstance(formats, str) else formats
    kind = next((kind for kind in kinds if kind in KINDS), None)
    if kind is None:
        return []
    pictures, total = [], 0
    for name, alt in names.items():
        path = directory / f"{name}.{kind}"
        if not path.is_file():
            continue
        total += path.stat().st_size
        source = _data(kind, path.read_bytes()) if total <= MOST_BYTES else path.name
        pictures.append(Picture(source, alt))
    return pictures


def _data(kind: str, content: bytes) -> str:
    return f"data:{KINDS[kind]};base64,{base64.b64encode(content).decode()}"
