"""What a response looks like in each dialect."""
