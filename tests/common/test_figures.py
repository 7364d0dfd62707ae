"""Figures as files: whole, small, the same bytes each time, and nothing fetched."""

import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from common import figures
from common.figures import FORMATS, RULE, png, svg, write_figure
from common.rules import problems


def drawn(noise: int = 0) -> Figure:
    """A curve, an image, and text with characters that XML and fonts have trouble with."""
    fig = Figure(figsize=(4, 3), dpi=100, facecolor="white")
    ax = fig.add_subplot()
    ax.plot([0, 1], [0, 1], label="a<b & θ×2")
    ax.imshow(np.random.default_rng(0).random((max(noise, 2), max(noise, 2))), aspect="auto")
    ax.legend()
    ax.text(0, 0, " end")
    return fig


def test_each_format_is_written_and_nothing_else(tmp_path) -> None:
    paths = write_figure(drawn(), tmp_path, "loss", ["png", "svg", "pdf"])
    assert [path.name for path in paths] == ["loss.png", "loss.svg", "loss.pdf"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert Image.open(paths[0]).size == (400, 300)
    assert ElementTree.parse(paths[1]).getroot().tag.endswith("svg")
    assert paths[2].read_bytes().startswith(b"%PDF-") and b"%%EOF" in paths[2].read_bytes()[-10:]


@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_figure_is_the_same_bytes(kind: str) -> None:
    first, again = FORMATS[kind](drawn()), FORMATS[kind](drawn())
    assert first == again and not re.search(rb"20\d\d-\d\d-\d\d|CreationDate", first)


def test_svg_keeps_text_and_refers_to_nothing_outside() -> None:
    element = svg(drawn())
    root = ElementTree.fromstring(element)
    texts = ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "a<b & θ×2" in texts and " end" in texts and "text{white-space: pre}" in element
    families = re.findall(r"font-family: ([^;\"]*)", element)
    assert families and all(family.endswith(", sans-serif") for family in families)
    places = [
        value
        for node in root.iter()
        for name, value in node.attrib.items()
        if name.rpartition("}")[2] in ("href", "src", "resource")
    ]
    assert places and all(place.startswith(("#", "data:")) for place in places)
    assert not re.search(r"url\((?!#)|@import|<!|<script", element)


def test_where_one_format_fails_nothing_is_written(tmp_path, monkeypatch) -> None:
    def fail(fig: Figure) -> bytes:
        raise MemoryError

    monkeypatch.setitem(FORMATS, "pdf", fail)
    with pytest.raises(MemoryError):
        write_figure(drawn(), tmp_path, "loss", ["png", "pdf"])
    assert list(tmp_path.iterdir()) == []


def test_a_large_picture_gets_fewer_colours_until_it_is_small(monkeypatch) -> None:
    whole = png(drawn(noise=200))
    monkeypatch.setattr(figures, "MOST_BYTES", int(0.8 * len(whole)))
    smaller = png(drawn(noise=200))
    assert len(smaller) <= 0.8 * len(whole)
    sizes = [Image.open(io.BytesIO(file)).size for file in (whole, smaller)]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("value", ["png", "svg", "pdf", ["pdf"], ["png", "svg"]])
def test_what_the_key_may_be(value: object) -> None:
    assert RULE.holds(value)


@pytest.mark.parametrize(
    ("value", "works"),
    [("svq", "svg"), (["png", "pfd"], "[png,pdf]"), ("jpeg", "png"), (None, "png"), ([], "[png]")],
)
def test_what_it_may_not_be(value: object, works: str) -> None:
    (line,) = problems({"figures": value}, {"figures": RULE})
    assert line.endswith(f"must be one of png, svg, pdf, or a list of them; try figures={works}")
