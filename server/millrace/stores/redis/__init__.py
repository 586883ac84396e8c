"""What replicas share through Redis. While it is away, each goes on with what it has."""
