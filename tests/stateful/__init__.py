"""What always holds, held against sequences of events that nobody has thought of."""
