"""The whole under faults, hostile input and time."""
