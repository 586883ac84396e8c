"""The operators' side: metrics and traces."""
