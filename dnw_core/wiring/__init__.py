"""How a graph gets its edges: one contract (``rule``), one rule a file, configurations in ``config``."""
