"""The names of curves that more than one part of the project knows."""

SPEED = "train/tokens_per_second"
LOWEST = "val/loss_best"  # the lowest val/loss so far
EXTRAPOLATION = "val_extrapolation/{}/{}"  # a figure, a method; the step is the context
FIGURES = "val_figures/{}"
