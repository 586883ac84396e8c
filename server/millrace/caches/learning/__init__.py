"""What the semantic cache learns from pairs of questions that were judged: which have one answer, and what tells."""
