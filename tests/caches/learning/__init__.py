"""What the semantic cache learns."""
