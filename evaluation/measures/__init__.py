"""What can be measured of a model at a context length, one file each.

`measure.py` says what a measure is, `registry.py` names all of them, `trials.py` is what those of
retrieval share, and `pooling.py` makes one figure of several checkpoints'.
"""
