"""Text -> vectors: hashed n-grams, and MiniLM where its weights are installed, which runs in a process of its own."""
