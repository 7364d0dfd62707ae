"""What is written of an extrapolation, read back with other tools."""

import csv
import io
import json
import re
import subprocess
import sys
from dataclasses import asdict
from itertools import chain, pairwise

import pytest
from PIL import Image
from rich.console import Console

from evaluation import (
    Extrapolation,
    figure,
    legend,
    table,
    tables,
    write_report,
)

LENGTHS = [256, 512, 1024, 2048]
BPB = {
    "none": [2.5, 3.25, 4.5, None],
    "linear": [2.5, 3.75, 5.25, 6.0],
    "yarn": [2.5, 2.375, 2.75, 3.125],
}


@pytest.fixture
def result():
    return Extrapolation(
        train_length=256,
        lengths=LENGTHS,
        protocol={
            "passages": 12,
            "passages_asked": 16,
            "target_tokens": 128,
            "methods": {name: f"what {name} does" for name in BPB},
        },
        methods={
            name: {
                "nll": [b and b / 2 for b in bpb],
                "bpb": list(bpb),
                "ci95": [b and [b - 0.125, b + 0.25] for b in bpb],
            }
            for name, bpb in BPB.items()
        },
        reasons={"none": {"2048": "out of GPU memory"}},
        best={"loss": {"256": [], "512": ["yarn"], "1024": [], "2048": ["yarn"]}},
    )


def printed(result, width=100):
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(table(result))
    return capture.get()


def test_json_is_the_result_itself(result, tmp_path):
    write_report(result, tmp_path)
    read = json.loads((tmp_path / "extrapolation.json").read_text())
    assert read == asdict(result)
    assert {"train_length", "lengths", "protocol", "methods", "reasons"} <= set(read)
    assert read["methods"]["none"]["bpb"][3] is None


def csv_rows(result, tmp_path):
    write_report(result, tmp_path)
    with open(tmp_path / "extrapolation.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_csv_has_a_line_per_figure_method_and_length(result, tmp_path):
    rows = csv_rows(result, tmp_path)
    assert {row["measure"] for row in rows} == {"loss"}
    bpb_rows = [row for row in rows if row["figure"] == "bpb"]
    assert [(r["method"], int(r["length"])) for r in bpb_rows] == [
        (m, n) for m in BPB for n in LENGTHS
    ]
    unrun = next(r for r in bpb_rows if r["method"] == "none" and r["length"] == "2048")
    empty = ["", "", "", "out of GPU memory"]
    assert list(unrun.values()) == ["loss", "bpb", "none", "2048", *empty]
    nll = [row["value"] for row in rows if row["figure"] == "nll"]
    for row, half, bpb in zip(bpb_rows, nll, chain(*BPB.values()), strict=True):
        if bpb is not None:
            assert float(row["value"]) == bpb == 2 * float(half) and row["reason"] == ""
            assert (float(row["ci95_low"]), float(row["ci95_high"])) == (bpb - 0.125, bpb + 0.25)


@pytest.fixture
def with_passkey(result):
    """The result with two more measures, of which one was run at one length."""
    result.protocol["measures"] = {"loss": "", "passkey": "", "attention": ""}
    shares = {"none": [1.0, 0.125], "linear": [0.75, 0.5], "yarn": [1.0, 0.5]}
    result.measures["passkey"] = {
        name: {
            str(n): {"accuracy": share, "ci95": [share / 2, 1.0]}
            for n, share in zip(LENGTHS, values, strict=False)
        }
        for name, values in shares.items()
    }
    layers = [{"mean_distance": 100.0}, {"mean_distance": 300.0}]
    result.measures["attention"] = {name: {"2048": {"layers": layers}} for name in BPB}
    result.best["passkey"] = {"256": ["none", "yarn"], "512": []}
    result.unmeasured["passkey"] = {"yarn": {"1024": "out of GPU memory"}}
    result.tax["yarn"] = {"nll": 0.25, "ci95": [0.125, 0.5]}
    return result


def test_every_measure_has_a_table_csv_lines_and_a_curve(with_passkey, tmp_path):
    console = Console(width=110, color_system=None)
    with console.capture() as capture:
        for one in tables(with_passkey):
            console.print(one)
    _, passkey, attention = re.split(r"passkey: |attention: ", capture.get())
    assert "1024 (4x)" in passkey and "2048" not in passkey  # where it was to be measured
    rows = {name: re.findall(rf"│ {name} .*", passkey)[0] for name in BPB}
    assert "*100.0%" in rows["none"] and "*100.0%" in rows["yarn"]  # identical ones share it
    assert " 50.0%" in rows["linear"] and " 12.5%" in rows["none"]
    assert "higher is better" in passkey and "higher is better" not in attention
    assert "- at 1024 (yarn): out of GPU memory" in passkey
    assert attention.count(" 200 ") == 3 and "*" not in attention

    row = next(r for r in csv_rows(with_passkey, tmp_path) if r["measure"] == "passkey")
    assert list(row.values()) == ["passkey", "accuracy", "none", "256", "1.0", "0.5", "1.0", ""]


def test_markdown_has_the_tables_with_intervals_and_the_best_in_bold(with_passkey, tmp_path):
    write_report(with_passkey, tmp_path)
    text = (tmp_path / "extrapolation.md").read_text()
    assert "| method | 256 (1×) | 512 (2×) | 1,024 (4×) | 2,048 (8×) |\n|---|---:|" in text
    assert "| yarn | 2.500 [2.375, 2.750] | **2.375** [2.250, 2.625] |" in text
    assert "| none | **100.0%** [50.0%, 100.0%] | 12.5% [6.2%, 100.0%] | – |" in text
    assert "- at 2048 (none): out of GPU memory" in text and "- `yarn`: what yarn does" in text


def test_png_is_a_picture_of_reasonable_size(result, tmp_path):
    write_report(result, tmp_path)
    assert (tmp_path / "extrapolation.png").stat().st_size < 100_000
    with Image.open(tmp_path / "extrapolation.png") as image:
        assert image.format == "PNG" and image.width > 1000 and image.height > 600


def test_a_second_report_replaces_the_first_and_leaves_nothing_else(result, tmp_path):
    write_report(result, tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(first) == [f"extrapolation.{kind}" for kind in ("csv", "json", "md", "png")]
    write_report(result, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first


def test_figure_draws_the_curves_bands_training_length_and_names(result):
    (ax,) = figure(result).axes
    curves = {tuple(line.get_ydata()): list(line.get_xdata()) for line in ax.lines}
    for bpb in BPB.values():
        run = tuple(b for b in bpb if b is not None)
        assert curves[run] == LENGTHS[: len(run)]
    assert any(list(line.get_xdata()) == [256, 256] for line in ax.lines)
    assert len(ax.collections) == len(BPB)  # a band each
    assert ax.get_xscale() == "log"
    assert [label.get_text() for label in ax.get_xticklabels()] == [
        "256\n1×",
        "512\n2×",
        "1,024\n4×",
        "2,048\n8×",
    ]
    names = " ".join(text.get_text() for text in ax.texts)
    assert all(name in names for name in BPB)


def test_names_of_curves_that_end_together_are_pushed_apart(result):
    for values in result.methods.values():
        values["bpb"][3] = 3.0
    result.reasons.clear()
    (ax,) = figure(result).axes
    heights = sorted(text.xy[1] for text in ax.texts if hasattr(text, "xy"))
    assert len(heights) == 3 and min(b - a for a, b in pairwise(heights)) > 0.05


def test_nothing_measured_still_makes_a_report(result, tmp_path):
    for values in result.methods.values():
        values.update({field: [None] * 4 for field in values})
    write_report(result, tmp_path)
    assert (tmp_path / "extrapolation.png").stat().st_size > 0
    assert "*" not in printed(result).split("└")[0]


def test_table_marks_the_best_method_of_each_length_without_colour(result):
    text = printed(result)
    rows = {name: re.findall(rf"│ {name} .*", text)[0] for name in BPB}
    assert "256 (1x)" in text and "2048 (8x)" in text
    assert rows["yarn"].count("*") == 2  # the best at 1024 is not beyond the interval
    assert "*2.375" in rows["yarn"] and "*3.125" in rows["yarn"]
    assert "* better than every other at its length, beyond the 95 % interval of the" in text
    assert "*" not in rows["none"] + rows["linear"]
    assert "at 2048 (none): out of GPU memory" in text
    assert "16 passages asked; the text holds 12" in text


def test_lengths_that_share_a_reason_share_a_line(result):
    result.reasons["none"] = {"2048": "broken"}
    result.reasons["yarn"] = {"256": "no", "512": "no", "2048": "no"}
    text = printed(result)
    assert "- at 2048 (none): broken" in text and "- at 256, 512, 2048 (yarn): no" in text
    result.reasons.update({name: {"1024": "short", "2048": "short"} for name in BPB})
    assert "- at 1024, 2048: short" in printed(result)


def test_legend_has_a_line_on_each_method(result):
    result.protocol["methods"]["yarn"] = "what yarn does, with [brackets] at some length"
    console = Console(file=io.StringIO(), width=40)
    console.print(legend(result))
    assert [line.rstrip() for line in console.file.getvalue().splitlines()] == [
        "none    what none does",
        "linear  what linear does",
        "yarn    what yarn does, with [brackets]",
        "        at some length",
    ]


def test_many_methods_differ_in_colour_or_in_line_style(result):
    values = result.methods["yarn"]
    result.methods.update({f"method-{i}@8+logn": values for i in range(15)})
    (ax,) = figure(result).axes
    curves = [(line.get_color(), line.get_linestyle()) for line in ax.lines[: len(result.methods)]]
    assert len(set(curves)) == len(result.methods) == 18


def test_a_table_without_marks_says_why(result):
    result.best["loss"] = {}
    beyond = "beyond the 95 % interval of the difference"
    assert f"no method is better than every other at its length, {beyond}" in printed(result)
    result.protocol["passages"] = 5
    assert "no method is marked as best: 5 passages are too few to tell" in printed(result)
    del result.best["loss"]  # as results of before there were marks
    text = printed(result)
    assert "*" not in text and "no method" not in text and "lower is better" in text


def test_neither_pyplot_nor_tensorboard_is_imported_before_it_is_needed():
    seen = "print([m for m in ('matplotlib', 'tensorboard') if m in sys.modules])"
    command = [sys.executable, "-c", f"import sys, evaluation; {seen}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_that_nothing_was_found_stands_below_the_table_in_place_of_marks(with_passkey, tmp_path):
    nothing = {"accuracy": 0.0, "ci95": [0.0, 0.03], "trials": [10, 12]}
    with_passkey.measures["passkey"] = {name: {"256": nothing, "512": nothing} for name in BPB}
    with_passkey.best["passkey"] = {}
    console = Console(width=110, color_system=None)
    with console.capture() as capture:
        for one in tables(with_passkey):
            console.print(one)
    passkey = capture.get().split("passkey: ")[1].split("attention: ")[0]
    sentence = "No key is found at any length by any method: 22 trials each."
    assert sentence in passkey and "no method" not in passkey
    write_report(with_passkey, tmp_path)
    assert f"\n{sentence}\n" in (tmp_path / "extrapolation.md").read_text()
