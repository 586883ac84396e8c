"""The tests: a folder for each room of the server, and `support` for what they share."""
