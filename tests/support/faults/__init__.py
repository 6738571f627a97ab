"""Commands, machines and processes that the fault tests harm."""
