"""Training with Lightning: the system, its optimiser, callbacks and commands."""
