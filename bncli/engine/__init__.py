"""One job in, its records out: the training engine."""
