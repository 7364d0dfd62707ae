"""What single experiments need beside the ordinary model; importing this registers all of it."""

from extras import crossbatch, random_positions

__all__ = ["crossbatch", "random_positions"]
