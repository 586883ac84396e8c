"""The choice of a strategy, and of the model that is called first."""
