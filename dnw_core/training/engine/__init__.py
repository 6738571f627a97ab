"""Steps and epochs: the optimiser, the learning rate, the numerics, and workers that sum their gradients."""
