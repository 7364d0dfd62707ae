"""The rotation in Triton. Read kernel.py first, then tile.py, norms.py, plan.py and sizes.py."""
