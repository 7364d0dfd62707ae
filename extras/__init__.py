"""What single experiments need beside the ordinary model and its training."""
