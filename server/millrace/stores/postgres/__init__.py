"""What replicas keep together in PostgreSQL. While it is away, each goes on with what it has on its own disk."""
