"""Many requests, ended in every way, and whether the ledger has what the simulated models themselves have counted."""
