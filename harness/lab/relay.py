"""What QEMU's user network starts for each connection of a guest: ``python -I -S relay.py SOCKET``.

The connection is this program's standard input and output. It goes, as a descriptor, in one datagram to SOCKET,
and is served from there: a gigabyte of root file system takes no detour. On standard error, which is the guest's too,
nothing must appear.
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
    with suppress(OSError):  # nobody serves any more: the guest sees the connection closed
        main(sys.argv[1])
