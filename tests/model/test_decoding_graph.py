"""The step that a CUDA graph holds: on a CPU uncaptured, on a GPU captured."""

import pytest
import torch

import model.decoding_graph
from commands import some
from model import ScalingConfig, Transformer, TransformerConfig, generate_batch
from model.decoding import Reader
from model.decoding_graph import GraphReader, NoGraph, graph_refusal, static_refusal

VOCAB = 13
PROMPTS = [torch.tensor(ids) for ids in ([1, 2, 3], [4], [5, 6, 7, 8, 9, 1, 2])]
KINDS = {
    "rope": {"n_kv_heads": 2},
    "half-split, shared": {"interleaved": False, "n_kv_heads": 1, "qk_norm": True},
    "pattern": {"window": 3, "pattern": ["window", "full-nope"]},
    "alibi": {"position": "alibi"},
    "alibi, window": {"position": "alibi", "window": 4},
    "ssmax": {"ssmax": True},
    "capped": {"attention_softcap": 5.0, "window": 5, "pattern": ["window", "full"]},
    "window": {"window": 4},
    "sinusoidal": {"position": "sinusoidal"},
    "learned": {"position": "learned", "train_length": 64},
    "scaled": {"attention_scale": 0.3, "qkv_bias": True, "block": "sandwich"},
    "yarn": {"scaling": ScalingConfig("yarn", 4.0, 16)},
}


def make(device: str = "cpu", dtype: torch.dtype = torch.float64, **options: object) -> Transformer:
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCAB, "n_layers": 2, "d_model": 32, "n_heads": 4, "tied_head": False}
    net = Transformer(TransformerConfig(**(sizes | options))).to(device, dtype).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(4)
    return net


def padded(device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(map(len, PROMPTS))
    rows = [torch.cat((torch.zeros(longest - len(p)).long(), p)) for p in PROMPTS]
    mask = [torch.arange(longest) >= longest - len(p) for p in PROMPTS]
    return torch.stack(rows).to(device), torch.stack(mask).to(device)


@pytest.mark.parametrize("kind", some(list(KINDS), default=6))
def test_a_static_step_is_a_plain_one(kind: str, monkeypatch) -> None:
    """Also where it sees twice as many slots as before, for rows of one length and of several."""
    monkeypatch.setattr(model.decoding_graph, "LEAST_EXTENT", 8)
    monkeypatch.setattr(model.decoding_graph, "ALIGNED", 8)
    net, (tokens, mask) = make(**KINDS[kind]), padded()
    if kind == "rope":  # of one length
        mask = None
    plain, static = (kind(net, mask, len(tokens), 40) for kind in (Reader, GraphReader))
    cores = [attention.core for attention in net.attentions()]
    extents = set()
    with torch.no_grad():
        for _ in range(30):
            expected, logits = plain(tokens), static(tokens)
            torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)
            tokens = expected.argmax(-1, keepdim=True)
            extents.add(static.extent)
    assert extents == {0, 16, 32, 40}  # none for the prompts
    assert cores == [attention.core for attention in net.attentions()]


def test_what_cannot_be_captured_says_why() -> None:
    assert graph_refusal(make()) == "the model is not on a GPU" and static_refusal(make()) is None
    dynamic = make(scaling=ScalingConfig("dynamic", 2.0, 8))
    assert static_refusal(dynamic) == "its frequencies follow the length"


@pytest.mark.gpu
def test_a_step_that_cannot_be_captured_runs_all_the_same(monkeypatch) -> None:
    net = make("cuda", torch.float32)
    plain = [list(row) for row in generate_batch(net, PROMPTS, max_new_tokens=9, temperature=0)]
    forward = net.forward

    def synchronising(tokens: torch.Tensor, *rest: object, **more: object) -> torch.Tensor:
        assert int(tokens.min()) >= 0
        return forward(tokens, *rest, **more)

    monkeypatch.setattr(net, "forward", synchronising)
    given = {"max_new_tokens": 9, "temperature": 0, "graph": True}
    with pytest.warns(NoGraph, match="decoding without CUDA graphs: "):
        assert [list(row) for row in generate_batch(net, PROMPTS, **given)] == plain


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_captured_step_gives_the_tokens_of_plain_ones(kind: str, monkeypatch) -> None:
    """In float32, past several extents, rows of several lengths, drawn and greedy."""
    monkeypatch.setattr(model.decoding_graph, "LEAST_EXTENT", 8)
    net = make("cuda", torch.float32, **KINDS[kind])
    assert graph_refusal(net) is None
    replays, replay = [], torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda g: replays.append(1) or replay(g))
    for settings in ({"temperature": 0.0}, {"seeds": [1, 2, 3], "top_p": 0.9}):
        for prompts in (PROMPTS, PROMPTS[:1]):
            seeds = settings.get("seeds", [0] * 3)[: len(prompts)]
            given = settings | {"max_new_tokens": 50, "seeds": seeds}
            plain = [list(row) for row in generate_batch(net, prompts, **given)]
            assert not replays
            graphs = [list(row) for row in generate_batch(net, prompts, graph=True, **given)]
            assert graphs == plain and len(replays) == 49
            replays.clear()


@pytest.mark.gpu
def test_bfloat16_steps_agree_to_their_rounding() -> None:
    net = make("cuda", torch.bfloat16, head_dim=64, n_kv_heads=2)
    tokens, mask = padded("cuda")
    plain, static = (kind(net, mask, len(tokens), 300) for kind in (Reader, GraphReader))
    with torch.inference_mode():
        for _ in range(40):
            expected, logits = plain(tokens).float(), static(tokens).float()
            assert (logits - expected).norm() < 0.05 * expected.norm()
            tokens = expected.argmax(-1, keepdim=True)
