"""What models that stand side by side are called."""

from pathlib import Path

import pytest

from cli.labels import LONGEST, labels_of

BASE = {
    "position": "rope",
    "scaling": {"method": "none", "factor": None},
    "rope": {"backend": "pytorch", "theta": 10000.0},
    "model": {"n_layers": 2},
    "data": {"seq_len": 64},
    "optimizer": {"lr": 0.001},
    "seed": 0,
}


def labels(*changed: dict) -> list[str]:
    runs = [Path(f"/runs/name{i}/20260101-12000{i}") for i in range(len(changed))]
    return labels_of([{**BASE, **change} for change in changed], runs)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([{}, {"position": "alibi"}], ["position=rope", "position=alibi"]),
        (
            [{}, {"position": "alibi"}, {"position": "alibi", "seed": 1}],
            ["position=rope,seed=0", "position=alibi,seed=0", "position=alibi,seed=1"],
        ),
        ([{}, {"rope": {"backend": "triton", "theta": 5e5}}], ["theta=10000.0", "theta=500000.0"]),
        (
            [{}, {"scaling": {"method": "yarn", "factor": 4.0}}],
            ["scaling=none,factor=null", "scaling=yarn,factor=4.0"],
        ),
        # The training length stands in the table; it is named where nothing else differs.
        ([{}, {"position": "nope", "data": {"seq_len": 32}}], ["position=rope", "position=nope"]),
        ([{}, {"data": {"seq_len": 32}}], ["seq_len=64", "seq_len=32"]),
        # Nothing that is told apart: their directories.
        ([{}, {}], ["20260101-120000", "20260101-120001"]),
    ],
)
def test_a_label_says_what_differs(changes: list[dict], expected: list[str]) -> None:
    assert labels(*changes) == expected


def test_labels_are_short_unique_and_names_of_directories() -> None:
    odd = [{"position": "a/b " + "x" * 60}, {"position": "../.." + "y" * 60}]
    assert labels(*odd) == ["20260101-120000", "20260101-120001"]
    assert labels({"position": "../a b"}, {})[0] == "position=.._a_b"
    same = [Path("/x/run"), Path("/y/run")]
    assert labels_of([BASE, BASE], same) == ["x-run", "y-run"]
    long = [Path(f"/{'n' * 90}{i}/{'r' * 90}") for i in range(2)]
    found = labels_of([BASE, BASE], long)
    assert len(set(found)) == 2 and all(len(label) <= LONGEST + 2 for label in found)


def test_what_most_tells_models_apart_comes_first_where_not_all_has_room() -> None:
    first = {"position": "sinusoidal", "optimizer": {"lr": 0.0012345678901234567}}
    assert labels(first, {}) == ["position=sinusoidal", "position=rope"]
