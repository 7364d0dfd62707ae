"""export.py: the directory that it leaves, and the figures on its card."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from bad_input import save_checkpoint
from cli.model_card import model_card
from cli.trained import load_trained
from commands import command_here, refused, some
from disk import file_size_limit
from exported import loaded, logits
from fake_runs import LENGTHS, write_json, write_run
from hf.holding import hold

SMALL = ("model.d_model=32", "model.n_heads=4", "model.n_layers=2", "model.mlp_hidden=48")
YARN = ("scaling=yarn", "scaling.factor=4", "scaling.train_length=8")
FILES = {
    *("README.md", "config.json", "generation_config.json", "model.safetensors"),
    *("tokenizer.json", "tokenizer_config.json"),
}


def make_run(home: Path, *overrides: str, best_step: int = 5, **files: Any) -> Path:
    """A finished run, whose model was never trained and whose figures are written by hand."""
    run = write_run(home / "run", 2.5, results={"best_step": best_step}, **files)
    save_checkpoint(run, *overrides)
    return run


def export(home: Path, *arguments: str) -> str:
    """What the command prints."""
    done = command_here("export.py", *arguments, cwd=home)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(
    "case", some([("nano", "llama"), ("mini", "qwen3"), ("gpt2", "arcee")], default=1)
)
def test_every_preset_is_loaded_by_transformers(case: tuple[str, str], tmp_path: Path) -> None:
    preset, family = case
    make_run(tmp_path, f"model={preset}", *SMALL)
    said = export(tmp_path, "checkpoint=run", "output_dir=a/b/out")
    assert said.startswith(f"family: {family}, ") and said.endswith("model: a/b/out\n")
    out = tmp_path / "a/b/out"
    assert {path.name for path in out.iterdir()} == FILES
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    model = load_trained(str(tmp_path / "run"), torch.device("cpu")).model
    tokens = torch.randint(0, 256, (2, 100))
    torch.testing.assert_close(
        logits(loaded(out), tokens), logits(model, tokens), atol=1e-4, rtol=0
    )
    config = json.loads((out / "config.json").read_text())
    assert config["max_position_embeddings"] == 32 and config["dtype"] == "float32"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`run`, and what the command makes of it in `out`, a link to the empty directory `real`."""
    home = tmp_path_factory.mktemp("home")
    run = make_run(home, *SMALL)
    found = json.loads((run / "extrapolation.json").read_text())
    found["methods"]["yarn"] = {"bpb": [1.23456, None, 7.5]}
    found["protocol"]["methods"] = {"none": "as trained", "yarn": "by length"}
    write_json(run / "extrapolation.json", found)
    (home / "real").mkdir()
    (home / "out").symlink_to("real")
    export(home, "checkpoint=run", "output_dir=out", "dtype=bfloat16")
    return home


def test_an_empty_directory_is_filled_and_others_can_read(home: Path) -> None:
    files = list((home / "real").iterdir())
    assert (home / "out").is_symlink() and {path.name for path in files} == FILES
    assert len({path.stat().st_mode for path in files}) == 1


def test_the_card_says_what_the_run_measured(home: Path) -> None:
    card = (home / "out/README.md").read_text()
    for row in (
        "| val/loss | 2.5000 nats per token |",
        "| val/bpb | 3.6067 bits per byte |",
        "| tokens of the run | 12,800 |",
        "| step | 5 |",
        "| training length | 32 tokens |",
        "| text | text, text.txt |",
        "| method | 32 (1x) | 64 (2x) | 128 (4x) |",
        "| none | 2.5000 | 2.6000 | 2.7000 |",
        "| yarn | 1.2346 |  | 7.5000 |",
        "- `yarn`: by length",
        "exported by Ropewalk as LlamaForCausalLM in bfloat16",
    ):
        assert row in card, card
    assert LENGTHS == [32, 64, 128] and "No figures" not in card


def test_what_the_card_shows_runs(home: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(home / "out")
    (code,) = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
    torch.manual_seed(0)
    exec(code.replace("**prompt", "**prompt, max_new_tokens=3"), {})
    out = capsys.readouterr().out
    assert out.startswith("\n") and len(out) > 2


def test_generation_is_that_of_generate_py(home: Path) -> None:
    from transformers import GenerationConfig

    found = GenerationConfig.from_pretrained(home / "out")
    assert (found.do_sample, found.temperature, found.max_new_tokens) == (True, 0.8, 400)
    assert not found.top_k and found.eos_token_id == found.pad_token_id == 0


@pytest.mark.parametrize("source", ["owner/name", "/home/me/name"])
def test_the_card_says_what_was_trained_on_and_how_far(source: str, tmp_path: Path) -> None:
    run = make_run(tmp_path, *SMALL, *YARN, f"init_from={source}")
    trained = load_trained(str(run), torch.device("cpu"))
    card = model_card(trained, hold(trained.model.config, None, ""), "float32")
    assert "| scaling | yarn by 4 |" in card
    assert f"| weights begun from | {source.removeprefix('/home/me/')} |" in card


@pytest.mark.parametrize("case", ["another step", "no run", "unfinished"])
def test_a_card_without_figures(case: str, tmp_path: Path) -> None:
    """They are not this checkpoint's, or there are none."""
    run = make_run(tmp_path, *SMALL, best_step=7 if case == "another step" else 5)
    file = run / "checkpoints/best.ckpt"
    if case == "no run":
        file = Path(shutil.copy(file, tmp_path))
    elif case == "unfinished":
        (run / "results.json").unlink()
    trained = load_trained(str(file), torch.device("cpu"))
    card = model_card(trained, hold(trained.model.config, None, ""), "float32")
    assert "No figures were measured" in card
    assert "val/" not in card and "bits" not in card.lower()


def test_nothing_is_left_of_a_model_that_no_family_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path, *SMALL, "model.ssmax=true")
    monkeypatch.chdir(tmp_path)
    words = ("checkpoint=run", "output_dir=out")
    said = refused("export.py", *words, monkeypatch=monkeypatch, capfd=capfd)
    assert said == "checkpoint=run: no family of Hugging Face's has model.ssmax=true"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_nothing_is_left_of_a_write_that_failed(tmp_path: Path) -> None:
    make_run(tmp_path, *SMALL)
    with file_size_limit(40_000):
        done = command_here("export.py", "checkpoint=run", "output_dir=out", cwd=tmp_path)
    assert done.stderr == f"error: {tmp_path / 'out'}: File too large; make room there\n"
    assert done.returncode == 1 and [path.name for path in tmp_path.iterdir()] == ["run"]
