"""The Triton kernel of the rotation: kernel, tile, sizes, plan of a launch."""
