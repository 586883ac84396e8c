"""The whole server under fire: faults of models, clients and networks, hostile input, kills, and hours of load."""
