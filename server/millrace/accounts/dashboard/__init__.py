"""What the dashboard shows: requests added up as they end, their figures, what is promised, and one request's story."""
