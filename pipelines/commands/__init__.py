"""What a user types: one module a command, its options, and what it prints."""
