"""Who may come in: the gate, its tickets, keys."""
