"""What coding agents have sent, as it was captured; long texts are filler of the same length.

Each file is one session: the head of each connection or request, and its body.
"""
