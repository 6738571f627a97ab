"""The commands that a user types: one module each, with its options and its output."""
