"""Far heads that in training read several passages as one (`model.crossbatch`)."""

import copy
import json
import math
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from commands import TINY, command_here, write_text
from extras.crossbatch import JoinPassages, set_crossbatch
from model import Transformer, TransformerConfig
from runs import Killed, assert_same, checkpoint, fit
from training.callbacks.checkpoints import BestAndLast
from training.module import LanguageModule

SIZE = {"vocab_size": 50, "n_layers": 2, "d_model": 32, "n_heads": 4, "mlp_hidden": 32}
PATTERNS = {
    "layers": {"pattern": ["window", "full-nope"], "window": 4},
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
    set_crossbatch(net, 1)
    assert torch.equal(net(tokens), plain(tokens))


def test_a_far_head_weighs_all_keys_of_the_group_as_its_ssmax_counts_them():
    """Against softmax written out, of queries, keys and values as the layer makes them."""
    net = build(**PATTERNS["layers"], crossbatch=2, ssmax=True).double().train()
    far = net.blocks[1].attention
    x = torch.randn(4, 5, 32, dtype=torch.float64)
    q, k, v = (part.reshape(10, 4, 8).transpose(0, 1) for part in far.qkv(x[2:]).split(32, dim=-1))
    counted = torch.arange(1, 11, dtype=torch.float64)
    scores = q @ k.mT / 8**0.5 * counted.log()[:, None] * far.ssmax.scale[:, None, None]
    weights = scores.masked_fill(~torch.ones(10, 10).bool().tril(), -torch.inf).softmax(-1)
    expected = far.out((weights @ v).transpose(0, 1).reshape(2, 5, 32))
    assert torch.allclose(far(x)[2:], expected, atol=1e-12)


@pytest.mark.slow
def test_a_compiled_model_joins_them_too():
    net = build(**PATTERNS["layers"], crossbatch=2, ssmax=True).train()
    compiled = copy.deepcopy(net)
    compiled.compile(fullgraph=True, backend="eager")
    tokens = torch.randint(50, (4, 12))
    read = {}
    for passages in (1, 2, 1):
        for either in (net, compiled):
            set_crossbatch(either, passages)
        read[passages] = net(tokens)
        torch.testing.assert_close(compiled(tokens), read[passages])
    assert not torch.allclose(read[1], read[2], atol=1e-4)


def test_a_mask_is_kept_and_a_batch_that_does_not_fit_is_refused():
    far = build(**PATTERNS["layers"], crossbatch=2).train().blocks[1].attention
    x = torch.randn(4, 5, 32)
    only_itself = torch.eye(5)
    assert torch.equal(far(x, only_itself), far.eval()(x, only_itself))
    with pytest.raises(ValueError, match=r"multiple of 2 x model\.crossbatch=4; got 3"):
        far.train()(x[:3])


def test_decoding_reads_one_passage():
    net = build(**PATTERNS["layers"], crossbatch=2, ssmax=True).eval()
    tokens = torch.randint(50, (3, 20))  # no multiple of the group
    cache = net.new_cache(3, 20)
    with torch.no_grad():
        parts = [net(part, cache=cache) for part in tokens.split([7, 1, 12], dim=1)]
        assert torch.allclose(torch.cat(parts, dim=1), net(tokens), atol=1e-5)


def test_what_the_model_refuses():
    for settings, said in (
        ({"crossbatch": 1}, "model.crossbatch=1: must be null or an integer from 2"),
        ({"crossbatch": 4}, "model.crossbatch=4: has no effect, since no head is without window"),
        (
            {"crossbatch": 4, "position": "sinusoidal"},
            "model.crossbatch=4: has no effect, since no",
        ),
        ({"crossbatch": 4, "pattern": ["window-nope", "window"], "window": 4}, "model.crossbatch"),
    ):
        with pytest.raises(ValueError) as error:
            TransformerConfig(**SIZE | settings)
        assert str(error.value).startswith(said) and len(str(error.value).splitlines()) == 1


# --- a run ----------------------------------------------------------------------------------

FAR = ("model.n_layers=2", "model.window=8", "model.pattern=[window,full-nope]")
JOINED = (*FAR, "model.crossbatch=2", "crossbatch_from=4")


@pytest.fixture(scope="module")
def whole(home):
    return fit(home, "whole", *JOINED)


def train_losses(run):
    lines = [json.loads(line) for line in (run.directory / "metrics.jsonl").open()]
    return [line["train/loss"] for line in lines if "train/loss" in line]


def test_passages_are_joined_from_the_step_on_that_the_run_is_told(home, whole):
    never = train_losses(fit(home, "never", *FAR))
    always = train_losses(fit(home, "always", *JOINED, "crossbatch_from=0"))
    late = train_losses(whole)
    assert late[:4] == never[:4] and late[4] != never[4]
    assert always[0] != never[0]


def test_the_best_is_one_of_those_that_learned_from_it(home, monkeypatch):
    """However low the loss before: here it is 1, 2, 3, ... in the order of validations."""
    losses = map(float, count(1))

    def rise(self):
        loss = torch.tensor(next(losses))
        self.log_dict({"val/loss": loss, "val/bpb": loss}, logger=False)

    monkeypatch.setattr(LanguageModule, "on_validation_epoch_end", rise)
    run = fit(home, "best", *JOINED)
    assert run.best.best_step == 6  # of validations at 2, 4, 6, 8 and 10
    assert checkpoint(run.directory, "best")["global_step"] == 6


@pytest.mark.parametrize(("step", "best", "passages"), [(3, 0, 1), (4, math.inf, 2), (6, 0, 2)])
def test_the_best_before_the_step_is_forgotten_and_no_other(step, best, passages):
    callback, kept = JoinPassages(4, 2), BestAndLast(Path())
    kept.best_loss = 0
    net = build(**PATTERNS["layers"], crossbatch=2)
    trainer = SimpleNamespace(global_step=step, callbacks=[kept])
    module = SimpleNamespace(net=net)
    callback.on_train_start(trainer, module)
    callback.on_train_batch_start(trainer, module)
    assert kept.best_loss == best
    assert net.blocks[1].attention.passages == passages


@pytest.mark.parametrize(
    "stop", [pytest.param(2, marks=pytest.mark.slow), 4, pytest.param(6, marks=pytest.mark.slow)]
)
def test_a_run_resumed_before_at_and_after_that_step_is_the_same(home, whole, stop):
    with pytest.raises(Killed):
        fit(home, f"cut-{stop}", *JOINED, stop=stop)
    resumed = fit(home, f"cut-{stop}", *JOINED, f"resume={home / f'cut-{stop}'}")
    for kind in ("last", "best"):
        assert_same(checkpoint(resumed.directory, kind), checkpoint(whole.directory, kind))
    assert resumed.best.state_dict() == whole.best.state_dict()


def train(cwd, name, *arguments):
    text = cwd / "text.txt"
    size = [*TINY, f"data.path={text if text.exists() else write_text(text)}"]
    options = [*size, *FAR, "model.crossbatch=2", f"run_dir={name}", *arguments]
    return command_here("train.py", *options, cwd=cwd)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["data.batch_size=6"], "model.crossbatch=2: twice as many passages must divide data"),
        (["drop_positions_at=9"], "drop_positions_at=9: cannot go with model.crossbatch"),
        (["crossbatch_from=20"], "crossbatch_from=20: must be below trainer.max_steps=20"),
        (["crossbatch_from=-1"], "crossbatch_from=-1: must be an integer of at least 0"),
        (["model.crossbatch=null", "crossbatch_from=9"], "crossbatch_from=9: has no effect"),
        (["model.crossbatch=5000"], "model.crossbatch=5000: must be null or an integer"),
    ],
)
def test_what_the_command_refuses(tmp_path, arguments, said):
    done = train(tmp_path, "refused", *arguments)
    assert done.returncode == 2 and said in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "refused").exists()
