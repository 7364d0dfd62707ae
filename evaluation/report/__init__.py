"""What a measurement leaves: tables, files, figures, TensorBoard."""
