"""Bent relative positions: the maps, and attention under them against a pairwise oracle."""

import math
from functools import partial

import pytest
import torch

from kernels import rope_phases
from maps_oracle import MAPS, MASKS, attention, grid, pairwise
from methods.bend import BentCore, bend, mean_of_turns, rotated
from methods.bent_attention import bent_attention
from methods.maps import (
    DualChunk,
    LeakyReRope,
    MeanReRope,
    ReRope,
    SelfExtend,
    Sinks,
    Window,
    attended,
    intervals,
)
from model import RoPEAttention, rope_frequencies
from small_models import small_model

# In these nothing is left of the bending, for inputs of up to 50 tokens.
LIMITS = [
    ReRope(50),
    MeanReRope(50, 90),
    LeakyReRope(50, 8),
    LeakyReRope(5, 1),
    SelfExtend(4, 50),
    SelfExtend(1, 5),
    DualChunk(60, 10),
    Window(50),
    Sinks(4, 46),
    Sinks(60, 1),
]


# --- the maps --------------------------------------------------------------------------------


@pytest.mark.parametrize("position_map", MAPS + MASKS + LIMITS, ids=str)
def test_each_pair_is_scored_by_the_one_pass_that_gives_its_relative_position(position_map):
    i, j = grid(50)
    counted = torch.zeros(50, 50, dtype=torch.long)
    low, high = intervals(position_map, i[:, 0])
    for p, one in enumerate(position_map.passes()):
        applies = (j >= low[p][:, None]) & (j < high[p][:, None])
        relative = (one.query(i) - one.key(j)).double() / one.leak
        expected = position_map.relative(i, j)
        torch.testing.assert_close(relative[applies], expected[applies], rtol=0, atol=1e-13)
        counted += applies
    seen = (j <= i) if position_map not in MASKS else masked(position_map)
    assert torch.equal(counted, seen.long())
    assert torch.equal(attended(position_map, i, j), seen)


def masked(position_map):
    """(50, 50) booleans: what a window, and sinks before it, leave to be seen."""
    i, j = grid(50)
    sinks = position_map.sinks if isinstance(position_map, Sinks) else 0
    return (j <= i) & ((i - j < position_map.window) | (j < sinks))


@pytest.mark.parametrize("position_map", MAPS + MASKS + LIMITS, ids=str)
def test_bounds_never_decrease_and_stay_among_the_keys(position_map):
    """What the fused kernel takes on trust."""
    low, high = intervals(position_map, torch.arange(200))
    for bounds in (low, high):
        assert (bounds.diff(dim=1) >= 0).all()
        assert (bounds >= 0).all() and (bounds <= torch.arange(200) + 1).all()
    assert len(low) <= 3 and hash(position_map) == hash(position_map)


@pytest.mark.parametrize("position_map", LIMITS, ids=str)
def test_in_its_limits_a_map_is_the_distance_itself(position_map):
    i, j = grid(50)
    causal = j <= i
    assert torch.equal(position_map.relative(i, j)[causal], (i - j).double()[causal])


def test_rerope_and_its_leak_by_hand():
    i, j = torch.tensor(20), torch.tensor([20, 17, 16, 15, 12, 0])
    assert ReRope(4).relative(i, j).tolist() == [0, 3, 4, 4, 4, 4]
    assert LeakyReRope(4, 2).relative(i, j).tolist() == [0, 3, 4, 4.5, 6, 12]


def test_self_extend_by_hand_is_exact_near_and_grouped_beyond():
    i, j = torch.tensor(21), torch.tensor([21, 18, 17, 16, 15, 0])
    # 21 // 4 - j // 4 + 4 - 4 // 4, from a distance of 4 on
    assert SelfExtend(4, 4).relative(i, j).tolist() == [0, 3, 4, 4, 5, 8]


@pytest.mark.parametrize("group", [2, 4, 8])
def test_self_extend_reaches_as_far_as_its_authors_say(group):
    """A training length L serves (L - window) group + window tokens."""
    train_length, window = 64, 16
    length = (train_length - window) * group + window
    assert SelfExtend(group, window).relative(*grid(length)).max() < train_length


def test_dual_chunk_by_hand_is_exact_for_local_tokens_and_never_above_the_chunk():
    position_map = DualChunk(12, 4)  # 8 tokens to a chunk
    i, j = torch.tensor(19), torch.arange(20)
    expected = [12 - n for n in range(8)] + [11 - n for n in range(8)] + [3, 2, 1, 0]
    assert position_map.relative(i, j).tolist() == expected
    i, j = grid(100)
    relative = position_map.relative(i, j)
    exact = (i - j <= 4) & (j <= i)
    assert torch.equal(relative[exact], (i - j).double()[exact])
    assert relative[j <= i].max() == 12 and relative[j <= i].min() == 0


def test_sinks_by_hand_stand_at_their_places_in_the_cache():
    """The paper's example: tokens 0 to 3 and 6 to 9, at places 0 to 7 of a cache of eight."""
    i, j = torch.tensor(9), torch.tensor([0, 1, 2, 3, 6, 7, 8, 9])
    assert Sinks(4, 4).relative(i, j).tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
    assert attended(Sinks(4, 4), i, torch.arange(10)).nonzero().flatten().tolist() == j.tolist()
    i, j = torch.tensor(3), torch.arange(4)  # the cache is not full
    assert Sinks(4, 4).relative(i, j).tolist() == [3, 2, 1, 0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Window(0), "window=0: must be an integer from 1 to .*; try window=256"),
        (lambda: Sinks(0, 0), "(?s)sinks=0: .*try sinks=4.*window=0: must be"),
        (lambda: ReRope(0), "window=0: must be an integer from 1 to .*; try window=128"),
        (lambda: LeakyReRope(2.5, 0), "(?s)window=2.5: .*leak=0: must be"),
        (lambda: MeanReRope(8, 7), "longest=7: must be at least window=8; try longest=15"),
        (lambda: SelfExtend(True, 8), "group=True"),
        (lambda: DualChunk(8, 4), "local=4: must be below half of chunk=8; try local=1"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- attention under them --------------------------------------------------------------------


@pytest.mark.parametrize("n_kv_heads", [4, 2, 1])
@pytest.mark.parametrize("position_map", MAPS + MASKS, ids=str)
def test_equals_every_pair_rotated_for_itself(position_map, n_kv_heads):
    module, x = attention(n_kv_heads=n_kv_heads), torch.randn(2, 50, 32).double() * 4
    bend(module, position_map)
    torch.testing.assert_close(module(x), pairwise(module, x, position_map), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("position_map", MAPS + MASKS, ids=str)
def test_blocks_of_any_size_give_the_same(position_map):
    module = attention(n_kv_heads=2)
    q, k, v = module._heads(torch.randn(2, 50, 32).double() * 4)
    whole = bent_attention(q, k, v, position_map, partial(rotated, module), scores_per_block=2**30)
    for rows in (1, 7, 16):
        size = rows * 2 * 4 * 50
        blocks = bent_attention(
            q, k, v, position_map, partial(rotated, module), scores_per_block=size
        )
        torch.testing.assert_close(blocks, whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("position_map", LIMITS, ids=str)
def test_in_its_limits_attention_is_plain_rope(position_map):
    module, x = attention(n_kv_heads=2), torch.randn(2, 50, 32).double() * 4
    plain = module(x)
    bend(module, position_map)
    torch.testing.assert_close(module(x), plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 7, 256])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-6)])
def test_the_mean_of_turns_is_their_mean(count, dtype, tolerance):
    inv_freq = torch.tensor([0.0, 1e-9, 1e-3, 0.7, 3.1, 5.0], dtype=torch.float64)  # 5: backwards
    m = torch.arange(count) - (count - 1) / 2
    expected = torch.exp(
        1j * m.double()[:, None] * inv_freq.where(inv_freq < 4, inv_freq - math.tau)
    )
    mean = mean_of_turns(rope_phases(inv_freq), count, dtype)
    assert mean.dtype == dtype
    torch.testing.assert_close(mean.double(), expected.mean(0).real, rtol=0, atol=tolerance)
    assert mean[0] == 1


def test_the_mean_over_one_distance_is_rerope():
    module, x = attention(n_kv_heads=2), torch.randn(2, 50, 32).double() * 4
    bend(module, ReRope(7))
    expected = module(x)
    bend(module, MeanReRope(7, 7))
    torch.testing.assert_close(module(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", [{"interleaved": False}, {"fraction": 0.5}])
@pytest.mark.parametrize("end", [12, 13])  # a middle that is a position, and one that is not
def test_a_mean_of_rotations_in_other_layouts_is_the_mean(options, end):
    module, x = attention(**options), torch.randn(1, 3, 2, 8).double()
    distances = torch.arange(5, end)
    apart = [rotated(module, x, torch.full((3,), int(n))) for n in distances]
    middle = torch.full((3,), int(distances[0] + distances[-1]))
    mean = rotated(module, x, middle, 2, len(distances))
    torch.testing.assert_close(mean, torch.stack(apart).mean(0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("position_map", [LeakyReRope(8, 4), MeanReRope(8, 15)], ids=str)
def test_frequencies_of_a_scaling_and_its_temperature_are_kept(position_map):
    net = small_model()
    net.set_scaling("yarn", factor=4.0, train_length=16)
    module = net.blocks[0].attention
    inv_freq, temperature = rope_frequencies(8, method="yarn", factor=4.0, train_length=16)
    assert temperature > 1
    bend(net, position_map)
    x = torch.randn(1, 40, 32).double()
    expected = pairwise(module, x, position_map, inv_freq, temperature)
    torch.testing.assert_close(module(x), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("options", [{"interleaved": False}, {"fraction": 0.5}, {"qk_norm": True}])
def test_other_layouts_equal_their_plain_selves_in_the_limit_and_not_beyond(options):
    module, x = attention(**options), torch.randn(2, 40, 32).double() * 4
    plain = module(x)
    bend(module, SelfExtend(1, 5))
    torch.testing.assert_close(module(x), plain, rtol=1e-12, atol=1e-12)
    bend(module, SelfExtend(2, 5))
    assert (module(x) - plain).abs().max() > 1e-3


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
@pytest.mark.parametrize("position_map", [ReRope(8), MeanReRope(8, 15)], ids=str)
def test_smaller_dtypes_are_near_float64(position_map, dtype, tolerance):
    module, x = attention(), torch.randn(1, 50, 32)
    bend(module, position_map)
    expected = module(x.double())
    y = module.to(dtype)(x.to(dtype))
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), expected, rtol=tolerance, atol=tolerance)


# --- the whole model -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "position_map",
    [
        *(ReRope(8), MeanReRope(8, 15), LeakyReRope(8, 4), SelfExtend(4, 8), DualChunk(12, 4)),
        *(Window(8), Sinks(4, 8)),
    ],
)
@pytest.mark.parametrize("step", [1, 7])
def test_decoding_through_the_cache_is_the_full_pass(position_map, step):
    net, tokens = small_model(n_kv_heads=2), torch.randint(0, 32, (2, 40))
    bend(net, position_map)
    net.set_score_scaling(8)
    with torch.no_grad():
        full = net(tokens)
        cache = net.new_cache(2, 40)
        parts = [net(part, cache=cache) for part in tokens.split(step, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), full, rtol=1e-9, atol=1e-9)


def test_short_input_is_the_model_as_trained_and_so_is_a_model_without_a_map():
    net, tokens = small_model(), torch.randint(0, 32, (2, 40))
    plain = net(tokens)
    bend(net, ReRope(8))
    bent = net(tokens)
    torch.testing.assert_close(bent[:, :8], plain[:, :8], rtol=1e-10, atol=1e-10)
    assert (bent - plain)[:, 9:].abs().max() > 1e-3
    bend(net, None)
    assert torch.equal(net(tokens), plain)


def test_one_map_takes_the_place_of_another_and_none_is_left():
    net, tokens = small_model(), torch.randint(0, 32, (2, 40))
    plain, cores = net(tokens), [layer.core for layer in net.attentions()]
    bend(net, LeakyReRope(4, 2))
    bend(net, ReRope(8))
    bent = net(tokens)
    bend(net, None)
    assert [layer.core for layer in net.attentions()] == cores
    assert torch.equal(net(tokens), plain)
    bend(net, ReRope(8))
    assert torch.equal(net(tokens), bent)


@pytest.mark.parametrize(
    "settings",
    [{"pattern": ["full", "full-nope"]}, {"pattern": ["full", "window"], "window": 6}],
)
def test_layers_without_far_distances_stay_as_they_are(settings):
    """As if their own core had been put back into a model that was bent as a whole."""
    net, tokens = small_model(**settings), torch.randint(0, 32, (2, 40))
    plain, cores = net(tokens), [layer.core for layer in net.attentions()]
    bend(net, ReRope(8))
    first, second = net.attentions()
    assert isinstance(first.core, BentCore) and second.core is cores[1]
    assert not torch.allclose(net(tokens), plain)
    bend(net, None)
    assert torch.equal(net(tokens), plain)


def test_capped_scores_are_bent_too():
    """Under a window wider than the text a map changes nothing, and a cap stays one."""
    tokens = torch.randint(0, 32, (2, 40))
    net, free = small_model(attention_softcap=0.5), small_model()
    plain = net(tokens)
    assert not torch.allclose(plain, free(tokens), atol=1e-3)
    bend(net, ReRope(50))
    torch.testing.assert_close(net(tokens), plain, rtol=1e-9, atol=1e-9)
    weights = net.attentions()[1].weights(torch.randn(1, 40, 32).double(), torch.tensor([39]))
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    spread = weights.amax(-1) / weights.amin(-1)
    assert spread.max() < math.exp(2 * 0.5) + 1e-9  # no score is beyond the cap


def test_a_token_changes_nothing_before_it():
    net, tokens = small_model(), torch.randint(0, 32, (1, 40))
    other = tokens.clone()
    other[0, 25] = (tokens[0, 25] + 1) % 32
    for position_map in (*MAPS, Window(17), Sinks(26, 1)):
        bend(net, position_map)
        before, after = net(tokens), net(other)
        torch.testing.assert_close(before[:, :25], after[:, :25], rtol=0, atol=1e-10)
        assert (before - after)[:, 25:].abs().max() > 1e-6


def test_it_trains():
    net = small_model()
    bend(net, LeakyReRope(4, 2))
    net(torch.randint(0, 32, (1, 20))).square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


def test_positions_and_models_without_rotation_are_refused():
    net = small_model()
    bend(net, ReRope(8))
    with pytest.raises(ValueError, match="positions, mask: a position map counts tokens itself"):
        net(torch.zeros(1, 4, dtype=torch.long), positions=torch.arange(4))
    with pytest.raises(ValueError, match=r"position_map=ReRope\(window=8\): .*position=nope"):
        bend(small_model(position="nope"), ReRope(8))
    bend(small_model(position="nope"), None)


def test_bidirectional_attention_is_refused():
    module = RoPEAttention(32, 4, backend="pytorch")
    with pytest.raises(
        ValueError, match=r"position_map=ReRope\(window=8\): is for causal attention"
    ):
        bend(module, ReRope(8))
    with pytest.raises(ValueError, match="train_length=8: is for causal attention alone"):
        module.set_score_scaling(8)
