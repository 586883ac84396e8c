"""Ports of servers that start later, or start again."""

import random
import socket

FIRST, LAST = 10_240, 32_000  # below those that systems give to clients, one of which could take it meanwhile


def free_port() -> int:
    """Return a port that nobody listens at, and that no connection is given before it is used."""
    chance = random.SystemRandom()  # several processes choose at once, and some set the seed of `random`
    while True:
        port = chance.randrange(FIRST, LAST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
