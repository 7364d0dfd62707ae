"""What is said of runs: labels, groups, the verdict and its reasons, tables."""

import json
from pathlib import Path

import pytest

from fake_runs import write_json, write_run
from reports.comparing import compare
from reports.comparison import Comparison
from reports.run_files import RunFiles
from reports.terminal import narrowed


def compared(home: Path, *runs: dict) -> Comparison:
    """The comparison of fake runs, each given by the arguments of `write_run`."""
    directories = [write_run(home / f"{i}", **run) for i, run in enumerate(runs)]
    return compare([RunFiles.read(directory) for directory in directories])


def sweep(
    losses: dict[float, list[float]], first_seed: int = 0, typed: str = "optimizer.lr"
) -> list[dict]:
    """Runs of several learning rates with as many seeds as there are losses."""
    return [
        {"loss": loss, "seed": seed, "optimizer__lr": lr, "typed": (f"{typed}={lr}",)}
        for lr, of_lr in losses.items()
        for seed, loss in enumerate(of_lr, first_seed)
    ]


CLEAR = sweep({0.01: [3.5, 3.51, 3.49], 0.001: [3.0, 3.01, 3.02], 0.1: [4.0, 4.02, 4.0]})


def test_a_clear_best_is_starred_and_said_to_be_more_than_noise(tmp_path: Path) -> None:
    found = compared(tmp_path, *CLEAR)
    assert [group.label for group in found.groups] == ["lr=0.001", "lr=0.01", "lr=0.1"]
    assert found.labels[0] == "lr=0.001,seed=0" and len(found.runs) == 9
    best, to_next, to_worst, *rest = found.verdict
    assert best.startswith("Best: lr=0.001, val/loss 3.0100 ±")
    assert "(4.343 bits per byte), mean of 3 seeds" in best
    assert "0.4900 nats per token (0.707 bits per byte) below the next, lr=0.01" in to_next
    assert to_next.endswith("more than the spread between seeds.")
    assert "below the worst, lr=0.1 " in to_worst and rest == []
    assert found.table.heads[:4] == ["lr", "seeds", "val/loss", "to best"]
    assert [row[0] for row in found.table.rows] == ["0.001", "0.01", "0.1"]
    stars = [cell for row in found.table.rows for cell in row if cell.startswith("*")]
    assert len(stars) == 1 and stars[0] == found.table.rows[0][2]
    assert found.single is not None and len(found.single.rows) == 9
    assert "paired by seed" in found.notes[1] and "both differences hold together" in found.notes[1]
    assert "known better" not in found.notes[1]


def test_where_pairing_helps_the_table_says_so(tmp_path: Path) -> None:
    """Its intervals of values overlap widely, and the best one is clear all the same."""
    found = compared(tmp_path, *sweep({0.001: [3.0, 3.5], 0.01: [3.1, 3.6001]}))
    assert found.verdict[0].startswith("Best: lr=0.001")
    assert "differences are known better than values" in found.notes[1]


def test_groups_of_one_distribution_get_no_star(tmp_path: Path) -> None:
    """Negative control: three seeds each of the same figures in another order."""
    same = sweep({0.001: [3.0, 3.1, 2.9], 0.01: [3.08, 2.95, 3.01]})
    found = compared(tmp_path, *same)
    assert "*" not in str(found.table.rows)
    assert found.verdict[0].startswith("Lowest: lr=0.001")
    assert found.verdict[1].startswith("No clear best: it is not told apart from lr=0.01.")
    assert found.verdict[2].endswith("no more than the spread between seeds explains.")


def test_one_seed_is_no_claim_and_the_command_for_more_is_there(tmp_path: Path) -> None:
    command = "python train.py data=text 'data.path=my text.txt' optimizer.lr=0.01,0.1 seed=5 -m"
    runs = [{**run, "environment": {"command": command}} for run in sweep({0.01: [3], 0.1: [9]}, 5)]
    found = compared(tmp_path, *runs)
    assert "±" not in str(found.table.rows) and "*" not in str(found.table.rows)
    more = "python train.py data=text 'data.path=my text.txt' optimizer.lr=0.01,0.1 seed=0,1,2 -m"
    assert found.verdict[-1].endswith(f"not known. More seeds tell: {more}")
    assert found.verdict[1].endswith("below the next, lr=0.1.")


def test_seeds_alone_are_one_setup_without_a_best(tmp_path: Path) -> None:
    found = compared(tmp_path, *[{"loss": 3 + s / 10, "seed": s} for s in range(3)])
    assert [group.label for group in found.groups] == ["fake"]
    assert found.verdict[0].startswith("One setup with 3 seeds: mean val/loss 3.1000 ±0.2484")
    assert "none of them is the best setup" in found.verdict[0]
    assert "*" not in str(found.table.rows)


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ({"results": {"text": "b"}}, {}, "different texts (stdlib has changed between them)"),
        (
            {"results": {"text": None}, "environment": {"python": "3.12.1"}},
            {},
            "library of each Python: 3.11.7, 3.12.1",
        ),
        ({"data__corpus": "books", "results": {"text": "b"}}, {}, "data.corpus: books, stdlib"),
        (
            {"data__corpus": "text", "data__path": "a.txt", "results": {"text": "b"}},
            {"data__corpus": "text", "data__path": "b.txt", "results": {"text": "c"}},
            "data.path: a.txt, b.txt",
        ),
        ({"data__val_tokens": 64}, {}, "Validation sets differ (data.val_tokens: 4096, 64)"),
        ({"data__vocab_size": 900}, {}, "Tokenizers differ (byte, byte of 900)"),
        ({"data__tokenizer": "char"}, {}, "with data.val_tokens=null bits per byte can"),
    ],
)
def test_what_cannot_be_compared_has_no_best(
    tmp_path: Path, one: dict, other: dict, said: str
) -> None:
    runs = sweep({0.01: [3.0, 3.01], 0.1: [9.0, 9.01]})
    found = compared(
        tmp_path, *({**run, **(one if i < 2 else other)} for i, run in enumerate(runs))
    )
    assert said in found.verdict[0] and found.compared is None
    assert "*" not in str(found.table.rows) and "to best" not in found.table.heads


def test_a_run_that_does_not_say_its_text_hides_no_other_text(tmp_path: Path) -> None:
    texts = ({"text": "b"}, {"text": "c"}, {"text": None})
    found = compared(tmp_path, *({"results": text, "seed": i} for i, text in enumerate(texts)))
    assert found.compared is None and "different texts" in found.verdict[0]


def test_other_tokenizers_are_compared_in_bits_per_byte(tmp_path: Path) -> None:
    whole = {"data__val_tokens": None}
    runs = [
        {"loss": 2.0, "seed": s, "data__tokenizer": name, "results": {"val/bpb": bpb + s / 100}}
        for name, bpb in (("char", 3.0), ("byte", 2.0))
        for s in range(3)
    ]
    found = compared(tmp_path, *({**run, **whole} for run in runs))
    assert found.comparable.figure == "val/bpb" and [*found.means] == ["val/bpb"]
    assert found.verdict[0].startswith("Best: tokenizer=byte, val/bpb 2.010 ±0.0")
    assert "nats per token cannot be compared, bits per byte can" in found.verdict[-1]
    assert found.table.rows[0][found.table.heads.index("val/bpb")].startswith("*2.010")


def test_keys_that_all_share_or_that_only_show_are_no_label(tmp_path: Path) -> None:
    shown = {"logger": {"csv": {}}, "trainer__log_every_n_steps": 1, "name": "b", "run_dir": "x"}
    found = compared(tmp_path, {"loss": 3.0, "optimizer__lr": 0.1}, {"loss": 3.1, **shown})
    assert [group.label for group in found.groups] == ["lr=0.1", "lr=0.001"]


def test_names_are_as_short_as_they_can_be(tmp_path: Path) -> None:
    found = compared(tmp_path, {"model__n": 1, "data__n": 2}, {"model__n": 3, "data__n": 4})
    assert [group.label for group in found.groups] == ["data.n=2,model.n=1", "data.n=4,model.n=3"]


def test_one_choice_stands_for_the_keys_that_it_sets(tmp_path: Path) -> None:
    small, large = (
        {"model__n_layers": n, "model__d_model": 32 * n, "typed": (f"model={name}", "seed=0")}
        for n, name in ((1, "nano"), (2, "mini"))
    )
    assert [g.label for g in compared(tmp_path, small, large).groups] == [
        "model=nano",
        "model=mini",
    ]
    typed = {**large, "model__n_layers": 9, "typed": ("model=mini", "model.n_layers=9")}
    found = compared(tmp_path / "b", small, large, typed)
    assert [g.label for g in found.groups][2] == "model=mini,n_layers=9"


def test_a_key_that_an_older_run_has_not_is_no_difference(tmp_path: Path) -> None:
    old = {"results": {"text": None}}
    found = compared(tmp_path, old, {"model__window": 8, "optimizer__lr": 0.1})
    assert [group.label for group in found.groups] == ["lr=0.001", "lr=0.1"]
    assert "Older runs do not say which text they read" in found.verdict[-1]


def test_a_moved_text_is_no_difference(tmp_path: Path) -> None:
    text = {"data__corpus": "text"}
    there = {"data__path": "/a/my.txt", **text}, {"data__path": "/b/my.txt", **text}
    assert len(compared(tmp_path, {"seed": 0, **there[0]}, {"seed": 1, **there[1]}).groups) == 1


def test_the_same_seed_again_is_no_further_seed(tmp_path: Path) -> None:
    found = compared(tmp_path, {"loss": 3.0}, {"loss": 3.0})
    assert found.means["val/loss"].ci95 is None
    assert any("like" in line and "no further seed" in line for line in found.verdict)


def test_an_unfinished_run_is_named_and_left_out(tmp_path: Path) -> None:
    runs = [*sweep({0.1: [3.0], 0.01: [3.2]}), {"loss": None, "optimizer__lr": 7.0}]
    found = compared(tmp_path, *runs)
    assert len(found.runs) == 2 and len(found.table.rows) == 2
    assert "without figures: lr=7.0 (seed 0, step 100 of 100)" in found.verdict[-1]
    assert f"resume={tmp_path / '2'}" in found.verdict[-1]


def test_one_run_is_shown_and_compared_with_nothing(tmp_path: Path) -> None:
    found = compared(tmp_path, {"loss": 3.0})
    assert found.verdict == [
        "One finished run, val/loss 3.0000 nats per token (4.328 bits per byte); there is nothing "
        "to compare it with: name two or more."
    ]
    assert len(found.table.rows) == 1


def test_speeds_of_two_devices_are_said_to_be_so(tmp_path: Path) -> None:
    found = compared(tmp_path, {"environment": {"device": "H100"}}, {"optimizer__lr": 1.0})
    assert found.verdict[-1] == "Speeds are of different devices: H100, cpu."


@pytest.mark.parametrize("other", ["text", "passages"])
def test_bits_of_other_passages_are_said_to_be_so(tmp_path: Path, other: str) -> None:
    found = compared(tmp_path, {"seed": 1}, {"seed": 2})
    note = "bpb at long contexts is not of the same passages in all runs"
    assert note not in found.notes
    changed = {"results": {"text": "b"}} if other == "text" else {"passages": 9}
    assert note in compared(tmp_path / "b", {"seed": 1}, {"seed": 2, **changed}).notes


@pytest.mark.parametrize(("yarn", "best"), [(9.0, "3.200 none"), (3.1, "3.100 yarn")])
def test_the_best_method_is_none_where_no_other_is_lower(
    tmp_path: Path, yarn: float, best: str
) -> None:
    run = write_run(tmp_path / "run", 3.0)
    result = json.loads((run / "extrapolation.json").read_text())
    result["methods"]["yarn"] = {"bpb": [3.0, 3.0, yarn]}
    write_json(run / "extrapolation.json", result)
    table = compare([RunFiles.read(run)]).table
    row = dict(zip(table.heads, table.rows[0], strict=True))
    assert (row["bpb at 128"], row["best method"]) == ("3.200", best)


def test_runs_of_several_names_are_named_by_their_directory(tmp_path: Path) -> None:
    assert compared(tmp_path / "a", {"seed": 1}, {"seed": 2}).title == "2 runs of fake"
    names = compared(tmp_path / "b", {"name": "x"}, {"name": "y", "seed": 2})
    assert names.title == "2 runs in b/"


def test_a_narrow_terminal_keeps_what_matters(tmp_path: Path) -> None:
    table = compared(tmp_path, *CLEAR).table
    shown, dropped = narrowed(table, 66)
    assert shown.heads == ["lr", "seeds", "val/loss", "to best", "bpb"]
    assert dropped == ["bpb at 128", "best method", "tokens/s", "seconds"]
    assert narrowed(table, 200) == (table, [])
    assert [len(row) for row in shown.rows] == [5, 5, 5]
