"""Corpora of damaged files."""
