"""Who may come in, decided from the head of a request alone: keys, tickets, the gate."""
