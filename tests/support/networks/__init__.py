"""Small networks with rules, and what the facts say of the rows."""
