"""The rotation, in this reading order:

reference.py    the formula, in PyTorch
phases.py       frequencies as exact fractions of a turn
arguments.py    what may be given, and the one object that is handed on
api.py          the entry points; calls that are known; the backends by name
qkv.py          from a fused projection to q, k and v
autograd.py     derivatives, and operators for torch.compile
triton/         the Triton kernel: kernel.py, its twin with norms (norms.py), what both are made
                of (tile.py), and what is launched for given tensors (plan.py, sizes.py)
"""
