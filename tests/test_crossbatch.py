"""Far heads that in training read several passages as one (`model.crossbatch`)."""

import json

import pytest
import torch
from commands import TINY, command_here, write_text

from model import Transformer, TransformerConfig
from model.flops import flops_per_token

SIZE = {"vocab_size": 50, "n_layers": 2, "d_model": 32, "n_heads": 4, "mlp_hidden": 32}
PATTERNS = {
    "layers": {"pattern": ["window", "full-nope"], "window": 4},
    "heads": {"pattern": ["mixed"], "window": 4, "far_heads": 1},
    "everything": {"position": "nope"},
}


def build(**settings: object) -> Transformer:
    torch.manual_seed(0)
    return Transformer(TransformerConfig(**SIZE | settings))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_passage_sees_those_before_it_in_its_group_and_no_other(pattern):
    """Of eight, four are read by themselves, and the others in pairs."""
    net = build(**PATTERNS[pattern], crossbatch=2).train()
    tokens = torch.randint(50, (8, 12))
    for changed, seen_by in ((1, {1}), (4, {4, 5}), (5, {5}), (6, {6, 7})):
        other = tokens.clone()
        other[changed] = (tokens[changed] + 1) % 50
        differ = (net(tokens) != net(other)).flatten(1).any(1)
        assert set(differ.nonzero().flatten().tolist()) == seen_by


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_group_is_one_text_where_all_heads_are_far(pattern):
    """In evaluation, and of passages by themselves, it is the model without crossbatch."""
    net = build(**PATTERNS[pattern], crossbatch=3, ssmax=True)
    plain = build(**PATTERNS[pattern], ssmax=True)
    plain.load_state_dict(net.state_dict())  # the same parameters under the same names
    tokens = torch.randint(50, (6, 12))
    assert torch.equal(net.eval()(tokens), plain.eval()(tokens))
    read = net.train()(tokens)
    assert torch.allclose(read[:3], plain(tokens[:3]), atol=1e-5)
    as_one = plain(tokens[3:].reshape(1, 36)).unflatten(1, (3, 12))[0]
    near = torch.allclose(read[3:], as_one, atol=1e-5)
    assert near == (pattern == "everything")  # a window ends at the edge of its passage
    net.set_crossbatch(1)
    assert torch.equal(net(tokens), plain(tokens))


def test_a_far_head_weighs_all_keys_of_the_group_as_its_ssmax_counts_them():
    """Against softmax written out, of queries, keys and values as the layer makes them."""
    net = build(**PATTERNS["layers"], crossbatch=2, ssmax=True).double().train()
    far = net.blocks[1].attention
    x = torch.randn(4, 5, 32, dtype=torch.float64)
    q, k, v = (
        part.reshape(10, 4, 8).transpose(0, 1) for part in far.qkv(x[2:]).split(32, dim=-1)
    )
    counted = torch.arange(1, 11, dtype=torch.float64)
    scores = q @ k.mT / 8**0.5 * counted.log()[:, None] * far.ssmax.scale[:, None, None]
    weights = scores.masked_fill(~torch.ones(10, 10).bool().tril(), -torch.inf).softmax(-1)
    expected = far.out((weights @ v).transpose(0, 1).reshape(2, 5, 32))
    assert torch.allclose(far(x)[2:], expected, atol=1e-12)


def test_decoding_reads_one_passage():
    net = build(**PATTERNS["heads"], crossbatch=2, ssmax=True).eval()
    tokens = torch.randint(50, (3, 20))  # no multiple of the group
    cache = net.new_cache(3, 20)
    with torch.no_grad():
        parts = [net(part, cache=cache) for part in tokens.split([7, 1, 12], dim=1)]
        assert torch.allclose(torch.cat(parts, dim=1), net(tokens), atol=1e-5)


def test_the_operations_of_far_heads_grow_with_the_group():
    few, many = (
        flops_per_token(build(**PATTERNS["heads"], crossbatch=n).config, 40) for n in (None, 3)
    )
    assert many - few == 12 * 8 * 2 * 40 * 2  # head_dim x layers x tokens x passages more


def test_what_the_model_refuses():
    for settings, said in (
        ({"crossbatch": 1}, "model.crossbatch=1: must be null or an integer from 2"),
        ({"crossbatch": 4}, "model.crossbatch=4: has no effect, since no head is without window"),
        ({"crossbatch": 4, "pattern": ["window-nope", "window"], "window": 4}, "model.crossbatch"),
    ):
        with pytest.raises(ValueError) as error:
            TransformerConfig(**SIZE | settings)
        assert str(error.value).startswith(said) and len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["data.batch_size=6"], "model.crossbatch=2: twice as many passages must divide data.batch"),
        (["drop_positions_at=9"], "cannot go with model.crossbatch"),
        (["crossbatch_from=20"], "crossbatch_from=20: must be below trainer.max_steps=20"),
        (["crossbatch_from=-1"], "crossbatch_from=-1: must be an integer of at least 0"),
        (["model.crossbatch=null", "crossbatch_from=9"], "crossbatch_from=9: has no effect"),
    ],
)
def test_what_the_command_refuses(tmp_path, arguments, said):
    done = train(tmp_path, "refused", *arguments)
    assert done.returncode == 2 and said in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "refused").exists()


def test_a_run_joins_passages_from_the_step_on_that_it_is_told(tmp_path):
    runs = {"never": 0, "late": 12, "always": 0}
    losses = {}
    for name, start in runs.items():
        passages = "null" if name == "never" else "2"
        options = [f"model.crossbatch={passages}", f"crossbatch_from={start}"]
        done = train(tmp_path, name, *options, "evaluation.lengths=[32]")
        assert done.returncode == 0, done.stderr
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        found = [json.loads(line) for line in lines]
        losses[name] = [line["train/loss"] for line in found if "train/loss" in line]
    assert len(losses["late"]) == 20
    assert losses["late"][:12] == losses["never"][:12]
    assert losses["late"][12] != losses["never"][12]
    assert losses["always"][0] != losses["never"][0]


def train(cwd, name, *arguments):
    text = cwd / "text.txt"
    size = [*TINY, "model.n_layers=2", f"data.path={text if text.exists() else write_text(text)}"]
    pattern = ["model.window=8", "model.pattern=[window,full-nope]", "model.crossbatch=2"]
    return command_here("train.py", *size, *pattern, f"run_dir={name}", *arguments, cwd=cwd)
