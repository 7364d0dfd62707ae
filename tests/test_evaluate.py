"""evaluate.py with several checkpoints, stores and splits, run in this process."""

import json
import re
from pathlib import Path

import pytest

from cli.subjects import checkpoint_paths
from commands import command_here, write_text
from saved_models import evaluate, save

FEW = ("passages=2", "target_tokens=8", "lengths=[32,64]", "methods=[none,crop,yarn@2]")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with checkpoints that differ in what their names say."""
    home = tmp_path_factory.mktemp("evaluate")
    write_text(home / "text.txt")
    save(home / "a", 0)
    save(home / "b", 1)
    save(home / "longer", 2, seq_len=64)
    save(home / "other", 2, corpus="1" * 64)
    save(home / "alibi", 2, position="alibi")
    return home


@pytest.mark.slow
def test_two_checkpoints_make_one_table_and_a_repetition_measures_nothing(home: Path) -> None:
    options = ("checkpoint=[a, b]", *FEW, "output_dir=out", "figures=svg")
    status, out, err = evaluate(home, *options)
    assert status == 0, err
    assert {path.suffix for path in (home / "out").glob("*.[ps][nvd]*")} == {".svg"}
    result = json.loads((home / "out/extrapolation.json").read_text())
    assert result["checkpoints"] == [f"{run}/checkpoints/best.ckpt" for run in "ab"]
    figures = result["methods"]["none"]
    each = figures["per_checkpoint"]
    assert figures["nll"][0] == pytest.approx((each[0][0] + each[1][0]) / 2) and each[0] != each[1]
    assert result["methods"]["crop"]["nll"][1] == figures["nll"][0]
    assert "mean of 2 checkpoints; intervals are over passages" in out
    assert "a/checkpoints/best.ckpt at step 5" in out
    cells = (home / "out/cells.jsonl").read_bytes()
    assert len(cells.splitlines()) == 1 + 2 * 4

    (home / "out/extrapolation.json").unlink()
    status, out, _ = evaluate(home, *options)
    assert status == 0 and "8 finished cells found in out" in out
    assert (home / "out/cells.jsonl").read_bytes() == cells
    assert json.loads((home / "out/extrapolation.json").read_text()) == result

    status, quiet, _ = evaluate(home, *options, "--quiet")
    assert status == 0 and quiet == out[out.index("Bits per byte") :]  # tables and `results:`

    more = ("lengths=[32,48,64]", "methods=[none,yarn@2,logn]", "measures=[loss,positions]")
    status, out, err = evaluate(home, *options, *more)
    assert status == 0 and "8 finished cells found in out" in out, err
    added = (home / "out/cells.jsonl").read_bytes().removeprefix(cells)
    # At 48 tokens none, yarn@2 and logn, logn at 64, and the positions of those three at 64.
    assert len(added.splitlines()) == 2 * 7
    again = json.loads((home / "out/extrapolation.json").read_text())
    assert again["methods"]["none"]["nll"][::2] == figures["nll"]

    for changed, differs in (("passages=3", "passages=2, not 3"), ("lengths=[32]", "64, not 32")):
        status, _, err = evaluate(home, *options, changed)
        assert status == 2 and len(err.splitlines()) == 1
        assert "output_dir=out: holds an evaluation with " in err and differs in err


def test_what_generate_says_beside_the_text(home: Path) -> None:
    one = ("generate.py", "checkpoint=a", "prompt=line", "max_new_tokens=3")
    loud, quiet, two = (
        command_here(*one, *more, cwd=home).stdout
        for more in (["seed=1"], ["seed=1", "-q"], ["seed=1,2", "-m"])
    )
    assert loud == quiet and loud.startswith("line")
    assert two.startswith(f"job 1 of 2: seed=1\n{loud}job 2 of 2: seed=2 (about 0:0")


def test_generate_takes_a_file_and_ends_its_samples_at_a_stop(home: Path) -> None:
    (home / "prompt.txt").write_text("line")
    one = ("generate.py", "checkpoint=a", "max_new_tokens=40")
    whole, both = (
        command_here(*one, *more, cwd=home).stdout
        for more in (["prompt=line", "seed=2"], ["prompt_file=prompt.txt", "seed=1", "samples=2"])
    )
    first, second = both.removeprefix("--- sample 1 of 2 ---\n").split("--- sample 2 of 2 ---\n")
    assert second == whole and first.startswith("line") and first != second
    stop = next(character for character in whole[4:] if character.isalnum())
    cut = command_here(*one, "prompt=line", "seed=2", f"stop=['{stop}']", cwd=home).stdout
    assert cut == whole[: whole.index(stop, 4)] + "\n"


@pytest.mark.slow
def test_prompts_of_a_file_are_continued_together_as_each_alone(home: Path) -> None:
    """In three batches, under a method that follows the length past training; and into a file."""
    prompts = ["line", "one", "two and", "tree"]
    (home / "prompts.txt").write_text("\n".join(prompts))
    one = ("generate.py", "checkpoint=a", "max_new_tokens=40", "method=yarn", "stop=[e]")
    given = (*one, "prompts=prompts.txt", "batch_size=2", "samples=2")
    done = command_here(*given, cwd=home)
    assert done.returncode == 0, done
    alone = [
        command_here(*one, f"prompt={prompt}", f"seed={seed}", cwd=home).stdout
        for prompt in prompts[:2]
        for seed in (0, 1)
    ]
    texts = re.split(r"--- prompt \d of 4, sample \d of 2 ---\n", done.stdout)
    assert texts[1:5] == alone and len(texts) == 9
    done = command_here(*given, "output=texts.jsonl", cwd=home)
    assert done.stdout == "texts: texts.jsonl\n" and done.stderr == "", done
    rows = list(map(json.loads, (home / "texts.jsonl").read_bytes().splitlines()))
    assert [row["prompt"] + row["text"] + "\n" for row in rows] == texts[1:]
    assert [(row["sample"], row["seed"]) for row in rows] == [(1, 0), (2, 1)] * 4
    again = command_here(*given, "output=texts.jsonl", cwd=home)
    assert again.returncode == 2 and "is there already" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("checkpoint=[a,longer]",), "checkpoint=longer: trained at 64 tokens, not 32"),
        (("checkpoint=[a,other]",), "checkpoint=other: trained on another text (text 1111"),
        (("checkpoint=[a,alibi]",), "another model (position=alibi, not rope)"),
        (("checkpoint=[a,a]",), "a is named twice"),
        (("checkpoint=[a,]",), "must be a path, or a list of them"),
        (("checkpoint=[a,nowhere]",), "checkpoint=nowhere: no such file or directory"),
        (("checkpoint=[a,a/checkpoints/best.ckpt]",), "holds the same as one before it"),
        (("checkpoint=a", "split=report"), "split=report: data.corpus=text keeps no text for it"),
        (("checkpoint=a", "split=test"), "split=test"),
        (("checkpoint=a", "measures=[passkeys]"), "try measures=[passkey]"),
        (("checkpoint=a", "trials=0"), "trials=0: must be an integer from 1 to 1000000"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_line(
    arguments: tuple, message: str, home: Path
) -> None:
    before = sorted(home.rglob("*"))
    status, out, err = evaluate(home, *arguments)
    assert (status, out) == (2, "") and len(err.splitlines()) == 1, err
    assert message in err and sorted(home.rglob("*")) == before


def test_paths_are_taken_as_they_are(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("[a,b]").mkdir()
    assert checkpoint_paths("[a,b]") == ["[a,b]"]  # that is what it is called
    assert checkpoint_paths("runs/my run, (1)") == ["runs/my run, (1)"]
    assert checkpoint_paths('[runs/a b, "c"]') == ["runs/a b", "c"]
