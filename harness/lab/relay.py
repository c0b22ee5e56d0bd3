"""Started by QEMU's user network for each connection of a guest: ``python -I -S relay.py SOCKET``.

The connection is this program's standard input and output. It is sent as a descriptor, in one datagram, to SOCKET and
served by the receiver, so that a gigabyte of root file system is not copied here. Standard error is connected to the
guest too: nothing may be printed there.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress


def main(entrance: str) -> None:
    folder, _, name = entrance.rpartition("/")
    directory = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(f"/proc/self/fd/{directory}/{name}")  # unix(7): a path has at most 108 bytes
        socket.send_fds(sock, [b"connection"], [0])


if __name__ == "__main__":
    with suppress(OSError):  # the server is gone: the guest sees the connection closed
        main(sys.argv[1])
