"""The o200k_base vocabulary as data: its ranks, recoded and compressed, and its splitting pattern. See NOTICE."""
