"""The report's pictures: one idea a file, a common look in ``style``."""
