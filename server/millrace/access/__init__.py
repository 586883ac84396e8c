"""Authentication and admission, from the head of a request alone: keys, tickets, the gate."""
