"""`millrace chat`: a conversation in the terminal."""
