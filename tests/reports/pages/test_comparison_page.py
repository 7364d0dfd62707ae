"""report.html of a comparison, read as a browser does."""

from pathlib import Path
from urllib.parse import unquote

import pytest

from fake_runs import write_run
from pages import Page, assert_stands_alone
from reports.comparing import compare, draw
from reports.pages import comparison_page
from reports.run_files import RunFiles

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Jobs of a sweep, the first without a page of its own."""
    runs = [
        write_run(tmp_path / f"lr={lr},seed={seed}", loss + seed / 100, seed=seed, optimizer__lr=lr)
        for lr, loss in ((0.001, 3.0), (0.01, 3.5))
        for seed in (0, 1)
    ]
    for run in runs[1:]:
        (run / "report.html").touch()
    return runs


def test_the_verdict_comes_first_then_the_table_and_links_to_the_runs(runs: list[Path]) -> None:
    comparison = compare([RunFiles.read(run) for run in runs])
    draw(comparison)
    home = runs[0].parent
    page = Page(comparison_page(comparison, home))
    assert_stands_alone(page)
    places = [page.text.index(line) for line in comparison.verdict]
    places += [
        page.text.index(cell) for row in comparison.table.rows for cell in row if "±" in cell
    ]
    assert places == sorted(places) and "lr=0.001" in comparison.verdict[0]
    assert all(head in page.text for head in comparison.table.heads)
    assert all(note in page.text for note in comparison.notes)
    assert len(page.images) == len(comparison.figures) > 0
    links = [unquote(link) for link in page.links if link.endswith(".html")]
    assert links == [f"{run.name}/report.html" for run in runs[1:]]
    assert all((home / link).is_file() for link in links)
    assert "optimizer.lr" in page.text and "3.0000" in page.text


def test_links_are_relative_to_where_the_page_lies(runs: list[Path], tmp_path: Path) -> None:
    comparison = compare([RunFiles.read(run) for run in runs])
    page = Page(comparison_page(comparison, tmp_path / "comparisons/now"))
    links = [unquote(link) for link in page.links if link.endswith(".html")]
    assert links[0] == "../../lr=0.001,seed=1/report.html"


def test_pictures_keep_a_readable_width_on_a_narrow_screen(runs: list[Path]) -> None:
    page = Page(comparison_page(compare([RunFiles.read(run) for run in runs]), runs[0].parent))
    narrow = page.source.partition("@media (max-width: 40rem) {")[2].partition("\n}")[0]
    assert "figure { overflow-x: auto; }" in narrow and "figure img { min-width: " in narrow


def test_text_of_strangers_stays_text(tmp_path: Path) -> None:
    """In the name of a directory, of a key's value and of what was typed."""
    runs = [
        write_run(tmp_path / name, loss, data__path=f"{name}{EVIL}", name=EVIL)
        for name, loss in (("javascript:alert(1)", 3.0), ("<b>#?", 3.1))
    ]
    for run in runs:
        (run / "report.html").touch()
    page = Page(comparison_page(compare([RunFiles.read(run) for run in runs]), tmp_path))
    assert_stands_alone(page)
    assert EVIL in page.text and "b" not in page.tags
    links = [link for link in page.links if link.endswith(".html")]
    assert links == ["javascript%3Aalert%281%29/report.html", "%3Cb%3E%23%3F/report.html"]
