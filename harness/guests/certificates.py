"""Certificates with which two hosts migrate guests to each other: an authority of the test's own, one for a host.

They are put where an operator puts them, on /data; docs/guests.md has the same steps.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.core import process
from harness.core.deadline import Deadline
from harness.machine.machine import Machine

TLS_SOCKET = "libvirtd-tls.socket"
_DAYS = 30
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc")
"""An emulated host computes with elliptic curves a hundred times faster than with RSA."""
_AUTHORITY = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")
_HOST = (
    "basicConstraints=critical,CA:FALSE",
    "keyUsage=critical,digitalSignature,keyEncipherment",  # libvirt before 10 demands the latter
    "extendedKeyUsage=serverAuth,clientAuth",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostKeys:
    """PEM texts: the authority's certificate, and a host's own certificate and key."""

    authority: str
    certificate: str
    key: str

    def files(self) -> Mapping[str, tuple[str, str]]:
        """What a host needs: the path of each file, its mode with its owner, and its text.

        libvirtd(8) reads the first two folders as root; QEMU reads its own as its user.
        """
        return {
            "/etc/pki/CA/cacert.pem": ("0644 root", self.authority),
            "/etc/pki/libvirt/servercert.pem": ("0644 root", self.certificate),
            "/etc/pki/libvirt/clientcert.pem": ("0644 root", self.certificate),
            "/etc/pki/libvirt/private/serverkey.pem": ("0600 root", self.key),
            "/etc/pki/libvirt/private/clientkey.pem": ("0600 root", self.key),
            "/etc/pki/qemu/ca-cert.pem": ("0644 root", self.authority),
            "/etc/pki/qemu/server-cert.pem": ("0644 root", self.certificate),
            "/etc/pki/qemu/client-cert.pem": ("0644 root", self.certificate),
            "/etc/pki/qemu/server-key.pem": ("0400 $user", self.key),
            "/etc/pki/qemu/client-key.pem": ("0400 $user", self.key),
        }


@dataclass(frozen=True, slots=True)
class Authority:
    """An authority whose certificate and key are files in ``folder``."""

    folder: Path

    def keys_for(self, name: str, address: str) -> HostKeys:
        """Keys of the host that others reach by ``name`` or ``address``. `HostError` if openssl(1) fails."""
        key, certificate = self.folder / f"{name}.key", self.folder / f"{name}.pem"
        signed_by = ("-CA", str(self.folder / "ca.pem"), "-CAkey", str(self.folder / "ca.key"))
        names = f"subjectAltName=DNS:{name},IP:{address}"
        _certify(f"/CN={name}", key, certificate, *signed_by, *_extensions(*_HOST, names))
        authority = (self.folder / "ca.pem").read_text("ascii")
        return HostKeys(authority=authority, certificate=certificate.read_text("ascii"), key=key.read_text("ascii"))


def make_authority(folder: Path) -> Authority:
    """A new authority in the new ``folder``. `HostError` without openssl(1) of OpenSSL 3."""
    folder.mkdir(mode=0o700, parents=True)
    _certify("/CN=Bootproof test of migration", folder / "ca.key", folder / "ca.pem", *_extensions(*_AUTHORITY))
    return Authority(folder)


def _certify(subject: str, key: Path, certificate: Path, *more: str) -> None:
    openssl = process.require("openssl", "openssl")
    files = ("-keyout", str(key), "-out", str(certificate))
    process.output([openssl, "req", "-x509", *_KEY, "-days", str(_DAYS), "-subj", subject, *files, *more])


def _extensions(*values: str) -> Iterator[str]:
    for value in values:
        yield from ("-addext", value)


def install(machine: Machine, keys: HostKeys) -> None:
    """Put ``keys`` on the machine's /data and let libvirt listen. `GuestCommandFailed` names what does not work.

    libvirtd takes its sockets when it starts; guests that run go on without it.
    """
    machine.check(install_script(keys), Deadline(120))


def install_script(keys: HostKeys) -> str:
    """Shell: pure."""
    lines = [
        "set -e; umask 077",
        "user=$(awk -F'\"' '/^user *=/ { print $2 }' /etc/libvirt/qemu.conf)",
        'if [ ! "$user" ]; then user=qemu; ! id libvirt-qemu >/dev/null 2>&1 || user=libvirt-qemu; fi',
        "mkdir -p /etc/pki/libvirt/private",
    ]
    for path, (mode_and_owner, text) in keys.files().items():
        mode, owner = mode_and_owner.split()
        lines += [f"printf %s {shlex.quote(text)} >{path}", f"chown {owner} {path}; chmod {mode} {path}"]
    lines += [
        "chmod 0755 /etc/pki/CA /etc/pki/libvirt /etc/pki/qemu; sync",
        "systemctl stop libvirtd.service",
        f"systemctl restart {TLS_SOCKET}",
        f"systemctl is-active --quiet {TLS_SOCKET} || {{ systemctl status --no-pager {TLS_SOCKET}; exit 1; }}",
    ]
    return "\n".join(lines)
