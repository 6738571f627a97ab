"""The wiring rules as a library for any network: ``sparsify``, its table, and the way back (docs/sparsify.md)."""
