"""Images that are decoded while a network trains, by processes of their own."""
