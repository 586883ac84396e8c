"""How much a key may do."""
