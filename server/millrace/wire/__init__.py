"""Frames to values and values to frames. No I/O; shared by the server and the Python client."""
