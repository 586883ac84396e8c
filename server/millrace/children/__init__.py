"""Programs of our own in processes of their own, for work that must not hold this one up."""
