"""What a run is called that was given no name, alone and in a sweep."""

import pytest

from cli.compose import composed, plain
from cli.names import default_name
from cli.overrides import Overrides


def name(*lines: str, swept: tuple[str, ...] = ()) -> str:
    """The name of a job with these overrides, of which a sweep varies `swept`."""
    config = composed("train", lines, with_hydra=True)
    overrides = Overrides(lines, choices=config.hydra.runtime.choices)
    overrides.swept = list(swept)
    return default_name(plain(config), overrides)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["rope=pytorch"], "stdlib-nano-pytorch"),
        (["position=alibi", "model=mini"], "stdlib-mini-alibi"),
        (["experiment=books", "rope=pytorch"], "books-mini-pytorch"),
        (["experiment=long", "rope=pytorch"], "books-long-mini-pytorch"),
        (["data=mixture", "position=nope"], "books-mixture-nano-nope"),
        (["data=text", "data.path='a/My notes, (1).txt'", "position=nope"], "My_notes_1-nano-nope"),
        (["data=text", "data.path='texts/*.txt'", "position=nope"], "texts-nano-nope"),
        (["data=text", "data.path='https://x.org/a.txt?b=c'", "position=nope"], "a-nano-nope"),
    ],
)
def test_it_says_what_differs_between_runs(lines: list[str], expected: str) -> None:
    assert name(*lines) == expected


def test_a_sweep_leaves_out_what_it_varies() -> None:
    assert name("rope=pytorch", swept=("rope", "seed")) == "stdlib-nano"
    assert name("rope=pytorch", swept=("data", "model.n_layers")) == "nano-pytorch"
    assert name(swept=("model", "position", "data.path")) == "sweep"
    assert name("experiment=books", swept=("experiment",)) == "sweep"
