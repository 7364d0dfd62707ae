"""Lightning callbacks: metrics, checkpoints, samples, progress."""
