"""The network of a run: a namespace that has the loopback interface alone."""

import fcntl
import socket
import struct

SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8913, 0x8914  # netdevice(7)
IFF_UP = 1
IFREQ = "16sh14x"


def raise_loopback() -> None:
    """Set the loopback interface up, which a new namespace has down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        ours = struct.pack(IFREQ, b"lo", 0)
        name, flags = struct.unpack(IFREQ, fcntl.ioctl(any_socket, SIOCGIFFLAGS, ours))
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack(IFREQ, name, flags | IFF_UP))


def interfaces() -> set[str]:
    """Return the names of all interfaces."""
    return {name for _, name in socket.if_nameindex()}
