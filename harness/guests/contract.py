"""Reads what a host offers to its guests from QEMU and libvirt themselves. No guest is started."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from harness.core.deadline import Deadline
from harness.guest.channel import Channel
from harness.guest.probes import Probe, ask, read
from harness.model.guest_contract import DEPRECATED, KVM, GuestContract

_READ_S = 240.0
"""libvirt starts QEMU several times before its first answer: 20 s of CPU time in an emulated machine."""
_MOST_BYTES = 8 << 20
_ABSENT = "absent: "
"""A probe that cannot look says so, and why."""
_CPU_MODELS = '{"execute": "query-cpu-definitions"}'
_QMP = """\
for program in qemu-system-x86_64 /usr/libexec/qemu-kvm qemu-kvm; do
    command -v $program >/dev/null || continue
    $program -machine none -accel ACCELERATOR -nodefaults -no-user-config -display none -qmp stdio <<'END'
{"execute": "qmp_capabilities"}
COMMANDS
{"execute": "quit"}
END
    exit
done
echo 'absent: there is no QEMU for x86'"""
_DEVICES = '{"execute": "human-monitor-command", "arguments": {"command-line": "info qdm"}}'
_QEMU = Probe(
    "QEMU",
    _QMP.replace("ACCELERATOR", "tcg").replace(
        "COMMANDS", f'{{"execute": "query-version"}}\n{{"execute": "query-machines"}}\n{_CPU_MODELS}\n{_DEVICES}'
    ),
)
_NO_KVM = "[ -w /dev/kvm ] || { echo 'absent: the machine has no /dev/kvm'; exit; }\n"
_KVM_MODELS = Probe("CPU models under KVM", _NO_KVM + _QMP.replace("ACCELERATOR", KVM).replace("COMMANDS", _CPU_MODELS))
_FOLDERS = (
    "/usr/share/qemu /usr/share/qemu-kvm /usr/share/seabios /usr/share/seavgabios /usr/share/sgabios /usr/share/OVMF "
    "/usr/share/ovmf /usr/share/edk2 /usr/share/edk2-ovmf /usr/lib/ipxe/qemu /usr/share/ipxe /etc/qemu"
)
_FIRMWARE = Probe(
    "firmware",
    f"""\
for folder in {_FOLDERS}; do
    [ -d $folder ] || continue
    echo "folder $folder"
    find -L $folder -maxdepth 2 -printf '%y %s %p\\n' || exit
done
echo end""",
)
_ASK_LIBVIRT = """\
[ -S /run/libvirt/libvirt-sock ] || [ -S /run/libvirt/virtqemud-sock ] || {
    echo 'absent: libvirt has no socket in /run/libvirt'
    exit
}
command -v virsh >/dev/null || { echo 'absent: there is no virsh'; exit; }
"""
_LIBVIRT = Probe("libvirt's version", f"{_ASK_LIBVIRT}virsh version --daemon")
_DOMAINS = {
    KVM: Probe(
        "domain capabilities under KVM", f"{_NO_KVM}{_ASK_LIBVIRT}virsh domcapabilities --virttype kvm --machine q35"
    ),
    "qemu": Probe("domain capabilities", f"{_ASK_LIBVIRT}virsh domcapabilities --virttype qemu --machine q35"),
}
"""By the type of a domain. Each QEMU for x86 has q35; guests of pc have the same but for its buses."""
PROBES = (_QEMU, _KVM_MODELS, _FIRMWARE, _LIBVIRT, *_DOMAINS.values())

_OF_X86 = re.compile(
    r"(?i:ovmf)[^/]*\.(fd|bin|qcow2|json)|[^/]*edk2-(x86_64|i386)[^/]*\.(fd|json)|\d\d-[^/]*\.json"
    r"|(bios|vgabios|efi-|pxe-|kvmvapic|linuxboot|multiboot|pvh|qboot|sgabios)[^/]*\.(bin|rom)"
)
"""Names of the files that guests name, or that QEMU loads, on x86; its package has files for other processors too."""
_OF_OTHERS = re.compile(r"(?i)aarch64|aavmf|\barm|riscv|loongarch")
_DEVICE = re.compile(r'name "([^"]+)"(?:, bus ([^,]+))?')


def read_contract(channel: Channel) -> GuestContract:
    """What the host behind ``channel`` offers, in one round trip; an image without QEMU offers nothing.

    `ImageError` if a command fails, or prints something else than expected.
    """
    return parse(ask(channel, PROBES, Deadline(_READ_S), most_bytes=_MOST_BYTES))


def names_of(contract: GuestContract) -> set[str]:
    """What files of a host, such as the definition of a guest, may refer to, without words of any text."""
    return {*contract.firmware, *(name for name in contract.machine_types if any(map(str.isdecimal, name)))}


def parse(answers: Mapping[str, str]) -> GuestContract:
    """The contract in the answers to `PROBES`: pure. `ImageError` for an answer that is not as expected."""
    if _why_absent(answers, _QEMU):
        return GuestContract()
    looked = {KVM: _why_absent(answers, _KVM_MODELS), "capabilities": _why_absent(answers, _LIBVIRT)}
    unknown = {name: why for name, why in looked.items() if why}
    qemu = read(answers, _QEMU, _of_qemu)
    models = {"tcg": qemu.models}
    if KVM not in unknown:
        models[KVM] = read(answers, _KVM_MODELS, lambda text: _models(_returned(text, 1)[0]))
    daemon = {} if "capabilities" in unknown else {"libvirt": read(answers, _LIBVIRT, _daemon_version)}
    return GuestContract(
        programs={"QEMU": qemu.version, **daemon},
        machine_types=qemu.machine_types,
        cpu_models=dict(sorted(_by_accelerator(models))),
        firmware=dict(sorted(read(answers, _FIRMWARE, lambda text: list(_firmware(text))))),
        devices=qemu.devices,
        capabilities=dict(_domains(answers)),
        unknown=unknown,
    )


def _why_absent(answers: Mapping[str, str], probe: Probe) -> str:
    """Why the probe could not look; empty if it did."""
    answer = answers[probe.name]
    return answer.removeprefix(_ABSENT) if answer.startswith(_ABSENT) else ""


class _Qemu(NamedTuple):
    """What one QEMU says, by the names of `GuestContract`; ``models`` as of `_models`."""

    version: str
    machine_types: dict[str, str]
    models: Mapping[str, _Model]
    devices: dict[str, str]


class _Model(NamedTuple):
    is_usable: bool
    is_deprecated: bool


def _of_qemu(text: str) -> _Qemu:
    version, machines, models, devices = _returned(text, 4)
    return _Qemu(
        version=_version(version),
        machine_types=dict(sorted(_machine_types(machines))),
        models=_models(models),
        devices=dict(sorted(_devices(devices))),
    )


def _returned(text: str, count: int) -> list[Any]:
    """What QMP answered to ``count`` commands between qmp_capabilities and quit."""
    lines = [json.loads(line) for line in text.splitlines()]
    if errors := [line["error"]["desc"] for line in lines if "error" in line]:
        raise ValueError(f"QEMU refused a command: {errors[0]}")
    returned = [line["return"] for line in lines if "return" in line]
    if len(returned) != count + 2:
        raise ValueError(f"{len(returned)} answers of QMP, not {count + 2}")
    return returned[1:-1]


def _version(version: Any) -> str:
    """Of query-version: the package is empty in a QEMU that nobody packaged."""
    numbers = ".".join(str(version["qemu"][part]) for part in ("major", "minor", "micro"))
    package = version["package"].strip(" ()")
    return f"{numbers} ({package})" if package else numbers


def _machine_types(machines: Any) -> Iterator[tuple[str, str]]:
    """Of query-machines (qapi/machine.json), without the machine that has nothing."""
    for machine in machines:
        name = machine["name"]
        if name != "none":
            yield name, DEPRECATED if machine.get("deprecated") else ""
            if "alias" in machine:
                yield machine["alias"], f"alias of {name}"


def _models(definitions: Any) -> dict[str, _Model]:
    """Of query-cpu-definitions (qapi/machine-target.json): a model without unavailable features can run."""
    return {
        model["name"]: _Model(not model["unavailable-features"], model.get("deprecated", False))
        for model in definitions
    }


def _by_accelerator(models: Mapping[str, Mapping[str, _Model]]) -> Iterator[tuple[str, str]]:
    for name in {name for known in models.values() for name in known}:
        said = {accelerator: known[name] for accelerator, known in models.items() if name in known}
        words = [accelerator for accelerator, model in said.items() if model.is_usable]
        words += [DEPRECATED] if any(model.is_deprecated for model in said.values()) else []
        yield name, ", ".join(sorted(words))


def _devices(listed: str) -> Iterator[tuple[str, str]]:
    """Of the monitor's ``info qdm``, which marks what users cannot add (QEMU, system/qdev-monitor.c). CPUs are there
    once for each CPU model."""
    found = [line for line in listed.splitlines() if line.startswith("name ")]
    if not found:
        raise ValueError("no device in the answer to info qdm")
    for line in found:
        device = _DEVICE.match(line)
        if device and not line.endswith(", no-user") and not device[1].endswith("-cpu"):
            yield device[1], device[2] or ""


def _firmware(text: str) -> Iterator[tuple[str, str]]:
    """Path and size of each file; find(1) names each folder itself first."""
    *lines, end = text.splitlines()
    if end != "end":
        raise ValueError(f"no end but {end!r}")
    awaited = ""
    for line in lines:
        kind, _, rest = line.partition(" ")
        size, _, path = rest.partition(" ")
        if awaited and path != awaited:
            raise ValueError(f"{line!r} in place of {awaited}")
        awaited = rest if kind == "folder" else ""
        name = path.rpartition("/")[2]
        if kind == "f" and _OF_X86.fullmatch(name) and not _OF_OTHERS.search(path):
            yield path, str(int(size))
    if awaited:
        raise ValueError(f"nothing about {awaited}")


def _daemon_version(text: str) -> str:
    found = re.search(r"^Running against daemon: (.+)$", text, re.MULTILINE)
    if not found:
        raise ValueError("no version of the daemon")
    return found[1]


def _domains(answers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for kind, probe in _DOMAINS.items():
        if not _why_absent(answers, probe):
            for place, values in sorted(read(answers, probe, _capabilities).items()):
                yield f"{kind} {place}", values


def _capabilities(text: str) -> dict[str, str]:
    """Of libvirt's domain capabilities (formatdomaincaps): what is supported, and each enumeration."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"no XML: {error}") from error
    if root.tag != "domainCapabilities":
        raise ValueError(f"{root.tag}, not domainCapabilities")
    found = {place: ", ".join(sorted(values)) for place, values in _offered(root, ()) if values}
    vcpus = root.find("vcpu")
    return found if vcpus is None else found | {"vcpus": vcpus.attrib["max"]}


_GROUPS = ("os", "cpu", "devices", "features")
"""Elements whose children have names of their own: "disk bus", not "devices disk bus"."""
_SAID = ("path", "domain", "machine", "arch", "vcpu", "value", "enum", "model", "feature", "vendor")
"""Elements that are no place of something that is offered."""


def _offered(element: ElementTree.Element, place: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """Places such as "disk bus", and the values of each."""
    if element.get("supported") == "no":
        return
    values = _texts(element, "value")
    if place and (values or element.get("supported") == "yes"):
        yield " ".join(place), values or ["yes"]
    if element.get("name") == "custom":
        yield " ".join((*place, "models")), _texts(element, "model[@usable='yes']")
    for enum in element.findall("enum"):
        yield " ".join((*place, enum.attrib["name"])), _texts(enum, "value")
    for child in element:
        if child.tag not in _SAID:
            names = filter(None, (child.tag, child.get("name")))
            yield from _offered(child, () if child.tag in _GROUPS else (*place, *names))


def _texts(element: ElementTree.Element, tag: str) -> list[str]:
    return [child.text or "" for child in element.findall(tag)]
