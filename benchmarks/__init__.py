"""Measurements: ratios taken side by side in one run. Run a file directly; nothing here is a test."""
