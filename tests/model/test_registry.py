"""What experiments register with the model, and what it says where they have not."""

import pytest

from model import RoPEAttention, Transformer, TransformerConfig, registry

SIZES = {"n_layers": 2, "d_model": 32, "n_heads": 2}


@pytest.fixture
def nothing_registered(monkeypatch):
    monkeypatch.setattr(registry, "_attention", {})
    monkeypatch.setattr(registry, "_positions", {})


@pytest.mark.usefixtures("nothing_registered")
@pytest.mark.parametrize(
    ("key", "value"), [("crossbatch", 4), ("random_positions", 64)], ids=registry.KEYS
)
def test_a_key_that_nothing_stands_behind_is_refused_in_one_line(key, value):
    config = TransformerConfig(**SIZES, pattern=["full", "full-nope"], **{key: value})
    with pytest.raises(ValueError, match=f"model.{key}={value}: .*`import extras`") as error:
        Transformer(config)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("nothing_registered")
def test_an_ordinary_model_needs_nothing_that_is_registered():
    net = Transformer(TransformerConfig(**SIZES))
    assert [type(layer) for layer in net.attentions()] == [RoPEAttention] * 2


@pytest.mark.usefixtures("nothing_registered")
def test_a_kind_of_attention_takes_the_layers_that_it_chooses():
    class Other(RoPEAttention):
        pass

    def kind(config, layer):
        return Other if config.crossbatch and layer.position == "nope" else None

    registry.register_attention("crossbatch", kind)
    sizes = {**SIZES, "pattern": ["full", "full-nope"]}
    net = Transformer(TransformerConfig(**sizes, crossbatch=2))
    assert [type(layer) for layer in net.attentions()] == [RoPEAttention, Other]
    assert net.blocks[1].attention.causal and net.blocks[1].attention.position == "nope"
    plain = Transformer(TransformerConfig(**sizes))
    assert [type(layer) for layer in plain.attentions()] == [RoPEAttention] * 2
