"""What is done to a trained model at evaluation time: scalings, bent positions, crop."""
