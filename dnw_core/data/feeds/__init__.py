"""Batches of images in memory, each worker with its share."""
