"""Streams as providers really send them, written at random from a grammar of their quirks, with the truth known.

`python -m tests.grammar --streams 20000` asks for each through a server, over every wire, and compares.
"""
