"""The o200k_base and cl100k_base vocabularies as data: ranks, compressed, and splitting patterns. See NOTICE."""
