"""HTTP and WebSockets: what comes in on a connection, and what goes out on it."""
