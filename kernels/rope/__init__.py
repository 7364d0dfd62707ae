"""The rotation: reference, phases, entry points, derivatives, and the Triton kernel."""
