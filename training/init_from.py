"""Starting a new run with the weights of another one (`init_from`)."""

from torch import nn

from data.module import TextDataModule
from training.checkpoint_files import find_checkpoint, network_weights, read_checkpoint

# Weights that one position encoding has and another has not.
POSITIONAL = ("position_embedding.weight", "attention.ssmax.scale")


def load_weights(net: nn.Module, path: str, data: TextDataModule) -> None:
    """Load the weights of the run or checkpoint `path` into `net`.

    Those of a position encoding that the other model has not are left out, or start anew:
    `position=nope` from a run with RoPE is DroPE (train with positions, drop them, train on).
    ValueError where the text's tokenizer or another weight differs.
    """
    checkpoint = read_checkpoint(find_checkpoint(path, key="init_from"), "init_from")
    if checkpoint["ropewalk"]["tokenizer"] != data.tokenizer.state():
        raise ValueError(f"init_from={path}: that run's tokenizer is another; take its data= here")
    weights, own = network_weights(checkpoint), net.state_dict()
    for key in sorted(weights.keys() | own.keys()):
        theirs = tuple(weights[key].shape) if key in weights else "absent"
        ours = tuple(own[key].shape) if key in own else "absent"
        if key.endswith(POSITIONAL) and "absent" in (theirs, ours):
            print(f"init_from={path}: {key} is {theirs} there and {ours} here")
        elif theirs != ours:
            raise ValueError(
                f"init_from={path}: {key} is {theirs} there and {ours} here; give the same model="
            )
    net.load_state_dict(own | {key: value for key, value in weights.items() if key in own})
