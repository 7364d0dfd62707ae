"""Options of other people's models on a GPU: float32 there equals float64 on the CPU."""

import pytest
import torch

from model import Transformer, TransformerConfig

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
SIZES = {"vocab_size": 61, "n_layers": 2, "d_model": 64, "n_heads": 4, "n_kv_heads": 2}
OPTIONS = [
    {"block": "sandwich", "attention_softcap": 5.0, "window": 16, "pattern": ["window", "full"]},
    {"block": "parallel", "norm": "layer", "norm_bias": True, "qkv_bias": True, "fraction": 0.5},
    {"block": "post", "qk_norm": "width", "attention_scale": 0.3},
    {"block": "parallel-shared", "norm": "layer", "qk_norm": "heads", "logit_scale": 0.5},
    {"window": 16, "pattern": ["window", "full"], "local_theta": 100.0, "interleaved": False},
    {"position": "learned", "train_length": 64, "mlp": "gelu-tanh", "mlp_bias": True},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("padded", [False, True])
def test_a_gpu_gives_what_a_cpu_gives(options, padded):
    torch.manual_seed(0)
    net = Transformer(TransformerConfig(**SIZES, **options)).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    tokens = torch.randint(61, (2, 48))
    mask = torch.ones_like(tokens)
    mask[1, :17] = 0
    given = {"mask": mask.cuda()} if padded else {}
    with torch.no_grad():
        gpu = net.cuda()(tokens.cuda(), **given).cpu()
        cache = net.new_cache(2, 48)
        parts = [
            net(part, cache=cache, **({"mask": mask[:, :end].cuda()} if padded else {}))
            for part, end in zip(tokens.cuda().split([40, 7, 1], dim=1), (40, 47, 48), strict=True)
        ]
        exact = net.cpu().double()(tokens, **({"mask": mask} if padded else {}))
    real = mask.bool() if padded else torch.ones_like(mask, dtype=torch.bool)
    torch.testing.assert_close(gpu[real].double(), exact[real], rtol=0, atol=1e-3)
    torch.testing.assert_close(torch.cat(parts, 1).cpu()[real], gpu[real], rtol=0, atol=1e-3)
