"""The decision of the semantic cache: what the rules leave open is weighed, and served only above a threshold."""
