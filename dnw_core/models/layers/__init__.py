"""Layers and numerics that several networks share."""
