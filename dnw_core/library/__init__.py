"""The wiring rules as a library for anybody's network: ``sparsify``, its table, and the way back (docs/sparsify.md)."""
