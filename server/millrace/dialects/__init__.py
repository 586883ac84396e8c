"""A response's log shown in one dialect each: responses and chat completions, as numbered events that can be replayed."""
