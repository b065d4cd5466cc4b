"""What is measured before a training, or of one, and changes none: learning rates, batch sizes, where the time goes."""
