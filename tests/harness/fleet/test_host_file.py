# ruff: noqa: E501  # a plant is one line
"""Files of a fleet: what `bootproof hardware` writes is read, and each bad file is one sentence."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.fleet import BadHostFile, parse_host, pci_modalias, read_host
from harness.fleet.host_file import GuestsInUse, find_files

from ...small_fleet import BNX2X, NIC, RAID, text


def test_a_file_is_read_as_it_was_written() -> None:
    host = parse_host(text(NIC, RAID, BNX2X).encode(), "a/rack7.toml")

    assert (host.name, host.model, host.firmware, host.cpu_level, host.secure_boot) == (
        "a/rack7",
        "Dell R730",
        "uefi",
        3,
        False,
    )
    assert host.devices == (NIC, RAID, replace(BNX2X, address="0000:09:00.0"))


def test_words_are_decoded_and_unknown_keys_left_out() -> None:
    line = "acpi X%20Y:00 driver=Serial%20bus new_key=1 modalias=acpi:A:"
    host = parse_host(text().replace("\n'''\n", f"\n{line}\n'''\n").encode(), "x")

    assert (host.devices[-1].address, host.devices[-1].driver) == ("X Y:00", "Serial bus")


def test_what_guests_have_is_read_also_if_written_by_hand() -> None:
    by_hand = text() + '[seen.guests]\nmachine_types = {"pc-q35-9.2" = 3, "pc" = 1}\n'

    assert parse_host(by_hand.encode(), "x").guests == GuestsInUse(state="whole", machine_types=("pc", "pc-q35-9.2"))


def test_a_file_of_the_older_schema_is_read() -> None:
    content = 'description = "Old"\n[seen]\npci = ["0000:03:00.0 0104 1000:005d megaraid_sas", "0000:00:00.0 0600 8086:1237"]\n'

    host = parse_host(content.encode(), "old")

    assert (host.schema, host.devices[0].driver, host.devices[0].is_exact) == (1, "megaraid_sas", False)
    assert host.devices[0].modalias == pci_modalias(0x1000, 0x5D, class_=0x0104)
    assert host.devices[1].driver == ""


BAD: dict[str, tuple[bytes, str]] = {
    "newer": (text(schema=3).encode(), "has format 3 of a hardware profile; this Bootproof reads up to 2"),
    "half-written": (text().encode()[:-20], "is not TOML, or was not written to its end"),
    "cut before devices": (text().encode().partition(b"[seen]")[0], "lists no devices"),
    "cut within a table": (text().encode().partition(b"devices")[0], "lists no devices"),
    "by hand": (b'description = "x"\n[[disk]]\nbus = "sata"\n', "lists no devices"),
    "of another tool": (b'[package]\nname = "x"\n', "is not a hardware profile: it has the key 'package'"),
    "JSON": (b'{"a": 1}', "is not TOML"),
    "binary": (bytes(range(256)), "is not a text"),
    "empty": (b"", "lists no devices"),
    "guests in a list": (text().encode() + b'[seen.guests]\nmachine_types = ["q35"]\n', "machine_types is not a table"),
    "guests of another kind": (text().encode().replace(b"[seen]", b"[seen]\nguests = 3"), "guests is not a table"),
    "nested": (b"x = " + b"[" * 50_000, "is not TOML"),
    "a wrong type": (text().replace("devices = ", "devices = 1\nx = ").encode(), "[seen] is damaged: devices is not a text"),
    "a wrong line": (text().replace("pci 0000:01", "pci").encode().replace(b" id=", b" nonsense id="), "is not the line of a device"),
    "a schema that is no number": (text().replace("schema = 2", 'schema = "x"').encode(), "schema 'x' is not a number"),
    "an older one with a wrong row": (b'description = "x"\n[seen]\npci = ["a b"]\n', "[seen] is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_sentence_with_its_name(name: str, tmp_path: Path) -> None:
    content, wanted = BAD[name]
    file = tmp_path / "bad\nname.toml"
    file.write_bytes(content)

    with pytest.raises(UsageError) as error:
        read_host(file)

    print(error.value)
    assert wanted in str(error.value)
    assert str(error.value).startswith(f"{tmp_path}/bad\\nname.toml")
    assert str(error.value).isprintable()


def test_what_is_not_a_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "huge").write_bytes(b"#" * (5 << 20))
    for name, wanted in (
        ("pipe", "not a regular file"),
        ("loop", "symbolic links"),
        ("huge", "5,242,880 bytes"),
        ("gone", "No such file"),
    ):
        with pytest.raises(BadHostFile, match=wanted):
            read_host(tmp_path / name)


def test_folders_are_searched_in_order_and_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    for name in ("b/2.toml", "a/1.toml", "a/readme", "0.toml"):
        (tmp_path / "fleet" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fleet" / name).write_text("")
    (tmp_path / "fleet" / "a" / "up").symlink_to(tmp_path / "fleet")
    (tmp_path / "empty").mkdir()

    found = list(find_files([tmp_path / "fleet", tmp_path / "single", tmp_path / "empty"]))

    assert [path.name for path in found[:-1] if isinstance(path, Path)] == ["0.toml", "1.toml", "2.toml", "single"]
    assert isinstance(found[-1], BadHostFile)
    assert "has no file *.toml" in str(found[-1])


def test_no_change_of_a_byte_is_more_than_a_sentence() -> None:
    chance, good = random.Random(3), bytearray(text().encode())
    for _ in range(2000):
        content = bytearray(good)
        content[chance.randrange(len(content))] = chance.randrange(256)
        said = ""
        try:
            parse_host(bytes(content), "x")
        except UsageError as error:
            said = str(error)
        assert said.isprintable()
