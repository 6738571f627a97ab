"""Images made for the tests."""
