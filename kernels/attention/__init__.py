"""Attention over intervals of keys: several rotations, one softmax."""
