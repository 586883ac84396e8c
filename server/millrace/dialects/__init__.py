"""A response's log shown in one dialect each, as numbered events that can be replayed."""
