"""Ordinary networks of the ImageNet table, built without a graph."""
