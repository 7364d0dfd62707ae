"""`python train.py` end to end: what a run leaves behind, and that it says the truth."""

import csv
import json
import math
import re
from pathlib import Path

import pytest
import torch

from commands import TINY, command, command_here, write_text
from pages import Page, assert_stands_alone
from tensorboards import events, groups_of, hparams, points
from training.checkpoint_files import read_checkpoint


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a finished run in `run`, its output in `run.txt`."""
    home = tmp_path_factory.mktemp("train")
    text = write_text(home / "my text, (1).txt")
    options = (f"data.path={text}", "callbacks.samples.max_new_tokens=8", "run_dir=run")
    options += ("figures=[png,svg]",)
    done = command("train.py", *TINY, *options, cwd=home)
    assert done.returncode == 0, done.stderr
    (home / "run.txt").write_text(done.stdout)
    (home / "run.err").write_text(done.stderr)
    return home


def test_run_directory_is_complete(home: Path) -> None:
    files = {str(path.relative_to(home / "run")) for path in (home / "run").rglob("*")}
    expected = {
        *(".hydra/config.yaml", "environment.json", "metrics.jsonl", "results.json"),
        *("samples.txt", "checkpoints/best.ckpt", "checkpoints/last.ckpt"),
        *("extrapolation.json", "extrapolation.csv"),
        *("extrapolation.png", "extrapolation.svg"),
    }
    assert expected <= files
    assert not [name for name in files if name.endswith(".part")]


def test_output_names_the_run_and_the_curves(home: Path) -> None:
    output = (home / "run.txt").read_text()
    assert output.count(" run") >= 2  # at the start and at the end
    assert "tensorboard --logdir" in output
    assert "pytorch" in output
    assert "Traceback" not in (home / "run.err").read_text()


def test_results_hold_the_promised_figures(home: Path) -> None:
    results = json.loads((home / "run/results.json").read_text())
    assert results["steps"] == 20
    assert results["tokens"] == 20 * 4 * 32
    assert results["mfu"] is None  # a CPU has no known peak
    assert results["rope/backend"] == "pytorch"
    assert results["parameters"] > 0 and results["seconds"] > 0
    assert results["tokens_per_second"] > 0
    # Bytes: a nat per token is 1/ln 2 bits per byte.
    assert results["val/bpb"] == pytest.approx(results["val/loss"] / math.log(2), rel=1e-6)
    assert results["val/loss"] <= results["val/loss_last"]


def test_metrics_lines_and_tensorboard_agree(home: Path) -> None:
    lines = [json.loads(line) for line in (home / "run/metrics.jsonl").read_text().splitlines()]
    written = events(home / "run/tensorboard")
    tags = ("train/loss", "train/lr", "train/grad_norm", "train/tokens_per_second")
    for tag in (*tags, "val/loss", "val/bpb", "val/loss_best"):
        expected = [(line["step"], line[tag]) for line in lines if tag in line]
        found = [(event.step, event.value) for event in written.Scalars(tag)]
        assert [step for step, _ in found] == [step for step, _ in expected]
        assert [v for _, v in found] == pytest.approx([v for _, v in expected], rel=1e-5)
    assert [line["step"] for line in lines if "train/loss" in line] == list(range(1, 21))
    assert [line["step"] for line in lines if "val/loss" in line] == [10, 20]


def test_training_learns(home: Path) -> None:
    lines = [json.loads(line) for line in (home / "run/metrics.jsonl").read_text().splitlines()]
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert losses[0] == pytest.approx(math.log(256), abs=0.3)
    assert losses[-1] < losses[0] - 1


def test_tensorboard_has_one_run_with_curves_text_and_pictures(home: Path) -> None:
    root = home / "run/tensorboard"
    assert {path.parent for path in root.rglob("events*")} == {root}
    main = events(root)
    assert "samples/text_summary" in main.Tags()["tensors"]
    assert "val_figures/extrapolation" in main.Tags()["images"]
    scalars = main.Tags()["scalars"]
    assert list(groups_of(scalars)) == ["train", "val", "val_extrapolation"]  # two are open
    assert all(len(main.Scalars(tag)) > 1 for tag in scalars)  # no chart of a dot
    report = json.loads((home / "run/extrapolation.json").read_text())
    for method, values in report["methods"].items():
        measured = dict(points(root, f"val_extrapolation/bpb/{method}"))
        assert [measured[n] for n in report["lengths"]] == pytest.approx(values["bpb"], rel=1e-5)


def test_hparams_has_one_full_row_with_the_results(home: Path) -> None:
    results = json.loads((home / "run/results.json").read_text())
    report = json.loads((home / "run/extrapolation.json").read_text())
    keys, metrics, rows = hparams(home)
    (cells,) = rows.values()
    assert all(key in cells for key in [*keys, *metrics])
    assert cells["data.path"].endswith("my text, (1).txt") and cells["seed"] == 0
    assert cells["val/loss_best"] == pytest.approx(results["val/loss"], rel=1e-5)
    for method in ("none", "yarn"):
        longest = report["methods"][method]["bpb"][-1]
        assert cells[f"val_extrapolation/bpb/{method}"] == pytest.approx(longest, rel=1e-5)


def test_the_page_of_a_run_stands_alone_and_is_named_at_the_end(home: Path) -> None:
    results = json.loads((home / "run/results.json").read_text())
    page = Page.read(home / "run/report.html")
    assert_stands_alone(page)
    assert f"{results['val/loss']:.4f}" in page.text and "my text, (1).txt" in page.text
    assert len(page.images) == 4  # the curves, and what the run has drawn
    assert (home / "run.txt").read_text().splitlines()[-1].split() == ["report", "run/report.html"]


def test_extrapolation_files_agree(home: Path) -> None:
    report = json.loads((home / "run/extrapolation.json").read_text())
    assert report["train_length"] == 32 and report["lengths"] == [32, 64, 128, 256]
    with open(home / "run/extrapolation.csv", newline="") as file:
        rows = {
            (row["figure"], row["method"], int(row["length"])): float(row["value"])
            for row in csv.DictReader(file)
            if row["value"]
        }
    for method, values in report["methods"].items():
        for figure in ("nll", "bpb", "perplexity_ratio"):
            for length, value in zip(report["lengths"], values[figure], strict=True):
                assert rows[figure, method, length] == pytest.approx(value, rel=1e-6)


def test_checkpoint_is_plain_and_clean(home: Path) -> None:
    checkpoint = torch.load(home / "run/checkpoints/best.ckpt", weights_only=True)
    assert checkpoint["ropewalk"]["config"]["model"]["d_model"] == 32
    assert not [key for key in checkpoint["state_dict"] if "_orig_mod" in key]
    assert "phase" not in " ".join(checkpoint["state_dict"])


def test_validation_loss_is_what_the_checkpoint_gives(home: Path) -> None:
    """Recomputed by hand from the weights and the text, without the training code."""
    from model import Transformer, TransformerConfig

    checkpoint = read_checkpoint(home / "run/checkpoints/best.ckpt")
    identity = checkpoint["ropewalk"]
    net = Transformer(TransformerConfig.from_config(identity["config"], identity["vocab_size"]))
    net.load_state_dict({k.removeprefix("net."): v for k, v in checkpoint["state_dict"].items()})
    net.eval()
    text = (home / "my text, (1).txt").read_text()
    tokens = torch.tensor(list(text[int(len(text) * 0.9) :].encode()))
    nats = 0.0
    for start in range(0, len(tokens) - 1, 32):
        window = tokens[start : start + 33]
        with torch.no_grad():
            scores = net(window[None, :-1])[0].double().log_softmax(-1)
        nats -= scores.gather(1, window[1:, None]).sum().item()
    results = json.loads((home / "run/results.json").read_text())
    assert results["val/loss"] == pytest.approx(nats / (len(tokens) - 1), rel=1e-5)


def test_evaluate_repeats_the_runs_own_figures(home: Path) -> None:
    options = ("passages=3", "target_tokens=16", "methods=[none,yarn]")
    done = command_here("evaluate.py", "checkpoint=run", *options, cwd=home)
    assert done.returncode == 0, done.stderr
    (directory,) = (home / "run/evaluations").iterdir()
    again = json.loads((directory / "extrapolation.json").read_text())
    first = json.loads((home / "run/extrapolation.json").read_text())
    for method in ("none", "yarn"):
        expected = first["methods"][method]["nll"]
        assert again["methods"][method]["nll"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_evaluate_takes_methods_by_name_and_refuses_what_the_model_cannot(home: Path) -> None:
    options = ("checkpoint=run", "passages=2", "lengths=[32,64]", "output_dir=methods")
    done = command_here(
        "evaluate.py", *options, "methods=[none,yarn@8,yarn@8+logn,rerope+logn,longrope]", cwd=home
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((home / "methods/extrapolation.json").read_text())
    assert list(report["methods"]) == ["none", "yarn@8", "yarn@8+logn", "rerope+logn", "longrope"]
    assert list(report["reasons"]) == ["longrope"] and "no factors of its own" in done.stdout
    assert "\nyarn@8       slow pairs divided by 8" in done.stdout
    assert set(report["protocol"]["methods"]) == set(report["methods"])
    nll = [values["nll"] for values in report["methods"].values()]
    assert nll[0][0] != nll[1][0] == nll[2][0] and nll[1][1] != nll[2][1]
    done = command_here("evaluate.py", "checkpoint=run", "methods=[longrope]", cwd=home)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "methods=[longrope]: the model has no factors" in done.stderr


@pytest.mark.slow
def test_generate_takes_the_prompt_as_it_is_and_repeats_with_its_seed(home: Path) -> None:
    prompt = "To be, or {not} [to] 'be': ${x} \\ (1=2)"
    options = ("checkpoint=run", f"prompt={prompt}", "max_new_tokens=12", "top_k=5")
    first, second = (
        run("generate.py", *options, "seed=3", cwd=home) for run in (command, command_here)
    )
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith(prompt) and len(first.stdout) > len(prompt) + 1
    assert first.stdout == second.stdout


def test_a_directory_that_holds_a_run_is_refused(home: Path) -> None:
    before = sorted(str(path) for path in (home / "run").rglob("*"))
    again = command_here("train.py", *TINY, "data.path=my text, (1).txt", "run_dir=run", cwd=home)
    assert again.returncode == 2
    assert re.search(r"run_dir=run.*resume", again.stderr, re.S) and "Traceback" not in again.stderr
    assert sorted(str(path) for path in (home / "run").rglob("*")) == before


# A rate at which the positions soon matter; the control shows that they do.
FAST = ("model.d_model=64", "optimizer.lr=0.02", "optimizer.weight_decay=0", "callbacks=none")
UNMEASURED = ("evaluation.lengths=[32]", "evaluation.methods=[none]")  # as little as can be


def losses(home: Path, name: str, *options: str) -> list[float]:
    """The training losses of a run in `home/name`, one a step."""
    text = write_text(home / "text.txt")
    run = (f"data.path={text}", f"run_dir={name}")
    done = command_here("train.py", *TINY, *FAST, *UNMEASURED, *run, *options, cwd=home)
    assert done.returncode == 0, done.stderr
    lines = map(json.loads, (home / name / "metrics.jsonl").read_text().splitlines())
    return [line["train/loss"] for line in lines if "train/loss" in line]


def furthest(one: list[float], other: list[float]) -> float:
    """The largest difference at any step."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("precision", "steps", "tolerance"),
    [("32-true", 20, 1e-4), pytest.param("bf16-mixed", 8, 5e-3, marks=pytest.mark.slow)],
)
def test_backends_train_alike(tmp_path: Path, precision: str, steps: int, tolerance: float) -> None:
    """The same seed by the kernel and by PyTorch: the same losses, and not those without RoPE.

    In bfloat16 for the first steps: a rounding that falls otherwise, which depends on the CPU,
    grows with every step at this learning rate.
    """
    option = f"trainer.precision={precision}"
    triton = losses(tmp_path, "triton", option, "rope=triton")
    pytorch = losses(tmp_path, "pytorch", option, "rope=pytorch")
    without = losses(tmp_path, "without", option, "position=nope")
    for name in ("triton", "pytorch"):
        results = json.loads((tmp_path / name / "results.json").read_text())
        assert results["rope/backend"] == name
    assert len(triton) == 20
    assert furthest(triton[:steps], pytorch[:steps]) < tolerance
    assert furthest(without[:steps], pytorch[:steps]) > 3 * tolerance  # negative control


@pytest.mark.slow
def test_sweep_of_both_backends_makes_two_curves(tmp_path: Path) -> None:
    text = write_text(tmp_path / "text.txt")
    options = (*TINY, f"data.path={text}", "trainer.max_steps=2", "callbacks=none")
    done = command_here(
        "train.py", *options, *UNMEASURED, "rope=pytorch,triton", "-m", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    (sweep,) = tmp_path.glob("runs/text-nano/*")
    jobs = {path.parent.name for path in sweep.glob("*/results.json")}
    assert jobs == {"rope=pytorch", "rope=triton"} and (sweep / "report.html").is_file()
    assert len(list(sweep.glob("*/results.json"))) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"text.txt", "runs", "cache"}
