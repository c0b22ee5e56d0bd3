"""What libvirt says about a migration leads to a cause, and a guest that is not as it was is told from one that is."""

from __future__ import annotations

import pytest

from harness.guests.migrating_guest import newest
from harness.guests.migration_words import (
    CLOSED,
    LACKS_CPU,
    LACKS_MACHINE_TYPE,
    LINK_LOST,
    UNTRUSTED,
    Ending,
    cause_of,
    changes,
)
from harness.guests.peers import machine_types
from harness.guests.tiny_guest import Answer, parse_answer

BEFORE = parse_answer("status nonce=a counter=12 disk=a word=- boots=1 writes=3")
CAPABILITIES = """\
<capabilities><host/>
<guest><os_type>hvm</os_type><arch name='i686'><wordsize>32</wordsize><machine>pc-q35-1.0</machine></arch></guest>
<guest><os_type>hvm</os_type><arch name='x86_64'>
<machine maxCpus='255'>pc-i440fx-7.2</machine><machine canonical='pc-i440fx-7.2' maxCpus='255'>pc</machine>
<machine maxCpus='288'>pc-q35-7.2</machine><machine canonical='pc-q35-7.2' maxCpus='288'>q35</machine>
<domain type='qemu'/></arch></guest></capabilities>
"""


def after(**changed: object) -> Answer:
    fields = {**BEFORE.fields, "counter": "14", **{name: str(value) for name, value in changed.items()}}
    return Answer("status", fields)


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (
            "error: unsupported configuration: Emulator '/usr/bin/qemu-system-x86_64' does not support machine type "
            "'pc-q35-10.0'",
            LACKS_MACHINE_TYPE,
        ),
        ("error: unsupported configuration: CPU model 'Opteron_G1' is not supported by hypervisor", LACKS_CPU),
        ("error: unable to connect to server at 'machine-1.lab.test:16514': Connection refused", CLOSED),
        ("error: operation failed: migration out job: Unable to write to socket: Broken pipe", LINK_LOST),
        ("error: internal error: client socket is closed", LINK_LOST),
        (
            "error: internal error: unable to execute QEMU command 'blockdev-add': Failed to connect to "
            "'machine-1.lab.test:49153': Connection refused",
            CLOSED,
        ),
        ("error: The server certificate /etc/pki/libvirt/servercert.pem has expired", UNTRUSTED),
        ("error: something new", ""),
    ],
)
def test_what_libvirt_says_leads_to_a_cause(said: str, cause: str) -> None:
    assert cause_of(said) == cause


@pytest.mark.parametrize("status", [124, 137])
def test_a_migration_that_was_ended_by_its_limit_timed_out(status: int) -> None:
    assert Ending(status=status, said="").is_time_out
    assert not Ending(status=1, said="error").is_time_out


@pytest.mark.parametrize("writes", [8, 9])
def test_a_guest_that_went_on_has_not_changed(writes: int) -> None:
    """Its last write may not have been acknowledged."""
    assert list(changes(BEFORE, after(writes=writes), acknowledged=5)) == []


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"writes": 7}, "its disk lacks 1 of the 5 writes that it acknowledged meanwhile"),
        ({"writes": 8, "boots": 2}, "it was started anew: boots=2, and was 1"),
        ({"writes": 8, "counter": 11}, "its memory is of an earlier moment: counter=11, was 12"),
        ({"writes": 8, "nonce": "b"}, "its nonce is b, and was a"),
        ({"writes": 8, "disk": "error:0x80"}, "its disk is error:0x80, and was a"),
    ],
)
def test_a_guest_that_is_not_as_it_was_is_found(changed: dict[str, object], what: str) -> None:
    assert list(changes(BEFORE, after(**changed), acknowledged=5)) == [what]


def test_the_newest_machine_type_is_that_of_the_highest_version() -> None:
    types = {"pc-q35-7.2", "pc-q35-10.0", "pc-q35-9.2", "q35", "pc-i440fx-7.2", "pc", "microvm"}

    assert newest("q35", types) == "pc-q35-10.0"
    assert newest("pc", types) == "pc-i440fx-7.2"
    assert newest("q35", {"q35", "pc-q35-2.4-custom"}) == ""


def test_machine_types_are_those_for_x86_64() -> None:
    assert machine_types(CAPABILITIES) == {
        "pc-i440fx-7.2": "", "pc": "pc-i440fx-7.2", "pc-q35-7.2": "", "q35": "pc-q35-7.2"
    }  # fmt: skip
