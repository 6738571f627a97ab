"""The science: networks, wiring rules, data, one training run, and the cost of what was found.

Importing this package loads neither torch nor any other heavy library, so that a plan can be printed
in a fraction of a second; the modules below load what they need.
"""
