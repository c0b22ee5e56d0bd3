"""Certificates for hosts that migrate guests: what openssl and libvirt accept, and no key that others can read."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core import process
from harness.guests.certificates import HostKeys, install_script, make_authority


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "ca"


@pytest.fixture(scope="module")
def keys(folder: Path) -> HostKeys:
    return make_authority(folder).keys_for("rack7.lab.test", "10.77.0.10")


@pytest.mark.parametrize("purpose", ["sslserver", "sslclient"])
def test_a_host_can_be_both_ends_of_a_connection(folder: Path, keys: HostKeys, purpose: str) -> None:
    names = ["-verify_hostname", "rack7.lab.test", "-verify_ip", "10.77.0.10"]
    files = [str(folder / "ca.pem"), str(folder / "rack7.lab.test.pem")]

    checked = process.output(["openssl", "verify", "-purpose", purpose, *names, "-CAfile", *files])

    assert checked.endswith(": OK\n")
    assert "BEGIN CERTIFICATE" in keys.certificate


def test_another_authority_is_not_trusted(folder: Path, keys: HostKeys, tmp_path: Path) -> None:
    make_authority(tmp_path / "other")
    authority, certificate = str(tmp_path / "other" / "ca.pem"), str(folder / "rack7.lab.test.pem")

    status, _ = process.answer(["openssl", "verify", "-CAfile", authority, certificate])

    assert status != 0
    assert "BEGIN CERTIFICATE" in keys.authority


def test_keys_are_for_root_and_qemu_alone(keys: HostKeys) -> None:
    secret = {path: mode for path, (mode, text) in keys.files().items() if text == keys.key}

    assert secret == {
        "/etc/pki/libvirt/private/serverkey.pem": "0600 root",
        "/etc/pki/libvirt/private/clientkey.pem": "0600 root",
        "/etc/pki/qemu/server-key.pem": "0400 $user",
        "/etc/pki/qemu/client-key.pem": "0400 $user",
    }


def test_the_script_is_one_that_a_shell_reads(keys: HostKeys, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(install_script(keys))

    process.output(["bash", "-n", str(script)])
