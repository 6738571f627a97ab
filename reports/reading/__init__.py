"""Finished trials as they are read from the results folder."""
