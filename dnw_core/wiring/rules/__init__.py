"""The wiring rules: which edges a layer multiplies with, and the gradient that each weight gets."""
