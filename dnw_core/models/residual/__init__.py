"""Residual networks: ResNet-50 and the wide ResNet, and which of their edges are live."""
