"""Mixed layers: near heads with a window and positions, far heads with neither."""

import pytest
import torch

from model import Transformer, TransformerConfig
from model.flops import flops_per_token

SIZE = {"vocab_size": 50, "n_layers": 2, "d_model": 32, "n_heads": 4, "mlp_hidden": 32}


def build(**settings: object) -> Transformer:
    torch.manual_seed(0)
    return Transformer(TransformerConfig(**SIZE | settings)).eval()


def mixed(far_heads: int = 1, **settings: object) -> Transformer:
    return build(pattern=["mixed"], window=4, far_heads=far_heads, **settings)


@pytest.mark.parametrize("settings", [{}, {"ssmax": True, "qk_norm": True}, {"n_kv_heads": 2}])
def test_a_mixed_layer_is_one_attention_with_its_heads_shared_out(settings):
    """Its matrices, joined, are those of a window layer and of a position-free one."""
    net = mixed(2, n_layers=1, **settings)
    near, far = net.blocks[0].attention.near, net.blocks[0].attention.far
    x = torch.randn(2, 9, 32)
    outputs = []
    for part, whole in (
        (near, build(n_layers=1, window=4, **settings | {"ssmax": False})),
        (far, build(n_layers=1, pattern=["full-nope"], position="nope", **settings)),
    ):
        attention = whole.blocks[0].attention
        state = attention.state_dict()
        with torch.no_grad():
            for name, weight in part.state_dict().items():
                if name == "out.weight":  # the other heads write nothing
                    state[name].zero_()[:, : weight.shape[1]] = weight
                elif name == "qkv.weight":
                    parts = weight.split([h * 8 for h in (2, part.n_kv_heads, part.n_kv_heads)])
                    own = state[name].split([h * 8 for h in (4, *[attention.n_kv_heads] * 2)])
                    for target, source in zip(own, parts, strict=True):
                        target[: len(source)] = source
                elif name == "ssmax.scale":
                    state[name][:2] = weight
                else:
                    state[name].copy_(weight)
        attention.load_state_dict(state)
        outputs.append(attention(x))
    assert torch.allclose(net.blocks[0].attention(x), sum(outputs), atol=1e-6)


def test_far_heads_see_what_no_window_reaches():
    tokens = torch.randint(50, (1, 40))
    other = tokens.clone()
    other[0, 0] = (tokens[0, 0] + 1) % 50
    net, windows = mixed(), build(window=4)
    assert not torch.equal(net(tokens)[0, -1], net(other)[0, -1])
    assert torch.equal(windows(tokens)[0, -1], windows(other)[0, -1])


def test_decoding_is_the_full_pass():
    net, tokens = mixed(ssmax=True), torch.randint(50, (2, 20))
    cache = net.new_cache(2, 20)
    with torch.no_grad():
        parts = [net(part, cache=cache) for part in tokens.split([7, 1, 12], dim=1)]
        assert torch.allclose(torch.cat(parts, dim=1), net(tokens), atol=1e-5)
    assert cache.length == cache.max_length == 20


def test_it_has_the_parameters_of_any_other_pattern_and_drops_positions():
    net = mixed()
    assert net.num_parameters() == build().num_parameters()
    near = [attention.position for attention in net.attentions()]
    assert near == ["rope", "nope"] * 2
    net.drop_positions()
    assert [attention.position for attention in net.attentions()] == ["nope"] * 4
    assert net.config.layers[0].far_heads == 1


def test_its_operations_are_between_those_of_windows_and_of_full_layers():
    config = mixed().config
    few, many = (flops_per_token(build(**more).config, 40) for more in ({"window": 4}, {}))
    assert flops_per_token(config, 40) == few + (many - few) // 4


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pattern": ["mixed"], "window": 4}, "model.far_heads=null: must be some of"),
        ({"pattern": ["mixed"], "far_heads": 1}, "model.pattern=[mixed]: needs the length"),
        ({"pattern": ["mixed"], "window": 4, "far_heads": 4}, "model.far_heads=4: must be some"),
        ({"far_heads": 1}, "model.far_heads=1: no layer of model.pattern is mixed"),
        (
            {"pattern": ["mixed"], "window": 4, "far_heads": 1, "n_kv_heads": 2},
            "model.far_heads=1: must be some of model.n_heads=4 in a mixed layer, whole groups "
            "that share keys; valid: 2",
        ),
        (
            {"pattern": ["mixed"], "window": 4, "far_heads": 1, "n_kv_heads": 1},
            "model.pattern=[mixed]: mixed layers need two groups of heads",
        ),
        (
            {"pattern": ["mixed"], "window": 4, "far_heads": 1, "position": "sinusoidal"},
            "model.pattern=[mixed]: position=sinusoidal is in the embedding",
        ),
    ],
)
def test_what_is_refused(settings, said):
    with pytest.raises(ValueError) as error:
        TransformerConfig(**SIZE | settings)
    assert str(error.value).startswith(said) and len(str(error.value).splitlines()) == 1
