"""report.html of a run, read as a browser does."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import reports.pages
import train
from fake_runs import write_json, write_run
from pages import Page, assert_stands_alone
from reports.pages import write_run_page
from training.samples_file import Sample, sample_text

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
RESULTS = {"best_step": 90, "parameters": 379520, "rope/backend": "pytorch", "mfu": None}
EXTRAPOLATION = {
    "train_length": 32,
    "lengths": [32, 64],
    "protocol": {"passages": 3, "target_tokens": 16, "methods": {"none": "as trained"}},
    "methods": {
        "none": {"bpb": [2.5, None], "ci95": [[2.25, 2.75], None]},
        "yarn": {"bpb": [2.5, 2.625], "ci95": [None, None]},
    },
    "reasons": {"none": {"64": "out of memory"}},
}


def page_of(run: Path, formats: str | list[str] = "png") -> Page:
    results = json.loads((run / "results.json").read_text())
    path = write_run_page(run, results, formats)
    assert path == run / "report.html" and path.stat().st_size < 2_000_000
    page = Page.read(path)
    assert_stands_alone(page)
    return page


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run with all that a page can show."""
    run = write_run(tmp_path / "name/stamp", 2.5, typed=("seed=0", "model=mini"), results=RESULTS)
    write_json(run / "extrapolation.json", EXTRAPOLATION)
    samples = [Sample(step, "def ", f"f{step}():\n  pass") for step in (10, 20, 30, 40)]
    (run / "samples.txt").write_text("".join(map(sample_text, samples)))
    Image.new("RGB", (8, 8)).save(run / "extrapolation.png")
    return run


def test_a_page_says_what_the_files_say(run: Path) -> None:
    page = page_of(run)
    results = json.loads((run / "results.json").read_text())
    assert f"{results['val/loss']:.4f}" in page.text and f"{results['val/bpb']:.3f}" in page.text
    for shown in ("379,520", "1,000", "best: step 90", "pytorch backend", "12,800 tokens"):
        assert shown in page.text
    assert json.dumps(results, indent=2) in page.text
    assert "seed=0\nmodel=mini" in page.text and "n_layers: 2" in page.text
    assert "python train.py x=1,2 -m" in page.text  # the command, in the environment
    assert "2.500" in page.text and "2.250 to 2.750" in page.text and "out of memory" in page.text
    assert "64 (2×)" in page.text and "as trained" in page.text
    first = [page.text.index(f"f{step}()") for step in (40, 30, 20, 10)]
    assert first == sorted(first) and page.source.index("<summary>1 more") < page.source.index(
        "f10"
    )
    assert f"python train.py resume={run} trainer.max_steps=200" in page.text
    curves, picture = page.images
    assert curves["src"].startswith("data:image/png;base64,") and "loss" in curves["alt"]
    assert picture["src"].startswith("data:image/png") and "Bits per byte" in picture["alt"]


def test_a_section_is_left_out_where_there_is_nothing(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 2.5)
    (run / "metrics.jsonl").write_text('{"step": 10, "train/loss": 3.0}\n')  # a dot is no curve
    for name in ("extrapolation.json", "environment.json"):
        (run / name).unlink()
    page = page_of(run)
    assert page.images == [] and page.ids == ["config", "on"] and "Typed" not in page.text


def test_text_of_strangers_stays_text(tmp_path: Path) -> None:
    """In a sample, a path, what was typed, a method's line, and where the run lies."""
    evil = EVIL.replace("/", "_")
    run = write_run(
        tmp_path / f"a {evil}", 2.5, typed=(f"data.path={EVIL}",), results={"x": EVIL},
        environment={"device": EVIL, "versions": {EVIL: "1"}}, data__path=EVIL, name=EVIL,
    )  # fmt: skip
    protocol = EXTRAPOLATION["protocol"] | {"methods": {EVIL: EVIL}}
    methods = {EVIL: EXTRAPOLATION["methods"]["yarn"]}
    hostile = {"protocol": protocol, "methods": methods, "reasons": {EVIL: {"32": EVIL}}}
    write_json(run / "extrapolation.json", EXTRAPOLATION | hostile)
    (run / "samples.txt").write_text(sample_text(Sample(10, EVIL, "</pre></body>" + EVIL)))
    page = page_of(run)
    assert page.tags.count("body") == 1 and len(page.images) == 1  # the curves
    assert page.text.count(EVIL) >= 8 and "</pre></body>" in page.text
    assert evil in page.text


@pytest.mark.parametrize(
    ("formats", "kind"), [("svg", "svg+xml"), (["pdf", "svg"], "svg+xml"), ("pdf", None)]
)
def test_pictures_are_those_that_a_browser_shows(run: Path, formats: str, kind: str | None) -> None:
    (run / "extrapolation.svg").write_text(f"<svg>{EVIL}</svg>")
    sources = [image["src"].partition(";")[0] for image in page_of(run, formats).images]
    assert sources == ["data:image/png"] + ([f"data:image/{kind}"] if kind else [])


def test_pictures_that_would_make_a_page_large_stay_files(run: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    Image.fromarray(noise).save(run / "ratio.png")
    assert (run / "ratio.png").stat().st_size > 1_400_000
    assert [image["src"] for image in page_of(run).images][-1] == "ratio.png"


def test_a_page_that_cannot_be_drawn_is_seen_and_loses_no_figures(monkeypatch) -> None:
    left: list[object] = []
    stub = SimpleNamespace(
        directory=Path(), prepared=SimpleNamespace(config={"figures": "png"}),
        results=lambda _: {"val/loss": 1.0}, write_results=left.append,
    )  # fmt: skip

    def broken(*_: object) -> None:
        assert left == []  # results.json says "finished", so it is the last
        raise ZeroDivisionError

    for place in ("cli.announce.announce", "cli.extrapolate.extrapolate"):
        monkeypatch.setattr(place, lambda _: None)
    monkeypatch.setattr(reports.pages, "write_run_page", broken, raising=False)
    with pytest.raises(ZeroDivisionError):
        train.fit_and_measure(SimpleNamespace(run=stub, fit=lambda: None))
    assert left == [{"val/loss": 1.0}]
