"""What clients send, and the published contracts."""
