"""On the user network each connection of a guest reaches the lab's web server as a descriptor."""

from __future__ import annotations

import shlex
import socket
import subprocess
import uuid
from contextlib import suppress
from pathlib import Path

from harness.lab import Lab, open_lab
from harness.model.machine_spec import BootPath, MachineSpec

SPEC = MachineSpec(name="one", number=3, uuid=uuid.UUID(int=1), boot_path=BootPath.IPXE_BIOS)


def relay_of(lab: Lab) -> list[str]:
    """The command that QEMU starts for each connection of the machine."""
    return shlex.split(lab.netdevs(SPEC)[0].rpartition("-cmd:")[2].replace(",,", ","))


def answer(relay: list[str], request: bytes) -> bytes:
    """What a guest gets, as slirp starts a relay: one socket is all of its standard streams."""
    guest, theirs = socket.socketpair()
    with guest, theirs:
        subprocess.run(relay, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=theirs.fileno(), check=True)
        theirs.close()
        guest.settimeout(10)
        with suppress(BrokenPipeError):  # closed already: then nothing comes
            guest.sendall(request)
        return b"".join(iter(lambda: guest.recv(1 << 16), b""))


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 10.77.0.1\r\nConnection: close\r\n\r\n".encode()


def test_a_relayed_connection_is_served_and_is_its_machines(tmp_path: Path) -> None:
    (tmp_path / "rootfs").write_bytes(b"r" * 3_000_000)
    with open_lab(tmp_path, "user") as lab:
        lab.http.serve("/rootfs", tmp_path / "rootfs")
        lab.http.serve("/boot.ipxe", b"#!ipxe")
        relay = relay_of(lab)

        assert answer(relay, get("/rootfs")).endswith(b"\r\n\r\n" + b"r" * 3_000_000)
        assert answer(relay, get("/boot.ipxe")).endswith(b"\r\n\r\n#!ipxe")
        log = [(record.client, record.path, record.bytes_sent) for record in lab.http.log]

    assert log == [("10.77.0.13", "/rootfs", 3_000_000), ("10.77.0.13", "/boot.ipxe", 6)]


def test_a_folder_may_have_a_name_too_long_for_a_socket(tmp_path: Path) -> None:
    folder = tmp_path / ("a, 'quoted' folder " * 10).strip()
    folder.mkdir()
    with open_lab(folder, "user") as lab:
        lab.http.serve("/boot.ipxe", b"#!ipxe")
        assert answer(relay_of(lab), get("/boot.ipxe")).endswith(b"#!ipxe")


def test_a_lab_leaves_no_socket_behind_and_a_late_guest_sees_its_connection_closed(tmp_path: Path) -> None:
    with open_lab(tmp_path, "user") as lab:
        relay = relay_of(lab)
        assert [path.suffix for path in tmp_path.glob("machine-*")] == [".http"]

    assert not list(tmp_path.glob("machine-*"))
    assert answer(relay, get("/boot.ipxe")) == b""
