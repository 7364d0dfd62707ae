"""What can be measured of a model at a context length, one file each."""
