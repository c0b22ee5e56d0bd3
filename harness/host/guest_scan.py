"""Counts what the guests of this host have by libvirt's files: machine types, CPU models, firmware. No names of guests.

Like `hardware_scan`, it runs under Python 3.9 without any package.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

_FOLDERS = ("etc/libvirt/qemu", "run/libvirt/qemu")
"""Guests that are defined, and those that run: libvirt's configDir and stateDir (src/qemu/qemu_conf.c)."""
_KINDS = ("machine_types", "cpu_models", "firmware")


def guest_lines(root: Path) -> Iterator[str]:
    """The table [seen.guests] in TOML: a count of guests for each name; nothing on a host without libvirt for QEMU.

    ``state`` is "whole", or says why something is missing. A guest that runs with other names than it is defined with
    counts for both.
    """
    folders = [one for one in map(partial(_Folder.read, root), _FOLDERS) if one is not None]
    if not folders:
        return
    problems = [problem for folder in folders for problem in folder.problems]
    guests = {guest for folder in folders for guest in folder.guests}
    names = {name for folder in folders for name in folder.names}
    yield from ("", "[seen.guests]", f"state = {_quoted('; '.join(problems) or 'whole')}", f"count = {len(guests)}")
    for kind in _KINDS:
        counts: dict[str, int] = {}
        for _, name, _guest in sorted(one for one in names if one[0] == kind):
            counts[name] = counts.get(name, 0) + 1
        yield f"{kind} = {{{', '.join(f'{_quoted(name)} = {count}' for name, count in counts.items())}}}"


class _Folder(NamedTuple):
    """The guests in one of libvirt's folders; ``names`` are triples of kind, name and guest."""

    guests: list[str]
    names: list[tuple[str, str, str]]
    problems: list[str]

    @classmethod
    def read(cls, root: Path, name: str) -> _Folder | None:
        """None if there is no such folder."""
        found = cls([], [], [])
        try:
            files = sorted(file for file in (root / name).iterdir() if file.suffix == ".xml")
        except FileNotFoundError:
            return None
        except OSError as error:
            return cls([], [], [f"/{name} is not readable: {error.strerror}"])
        for file in files:
            try:
                found.names.extend((kind, said, file.stem) for kind, said in _names(_domain(file)) if said)
                found.guests.append(file.stem)
            except FileNotFoundError:  # the guest has ended meanwhile
                continue
            except OSError as error:
                found.problems.append(f"a guest in /{name} is not readable: {error.strerror}")
            except ElementTree.ParseError:
                found.problems.append(f"a guest in /{name} is not XML")
        return cls(found.guests, found.names, sorted(set(found.problems)))


def _domain(file: Path) -> ElementTree.Element:
    """The definition of a guest; that of one that runs is inside of its status."""
    top = ElementTree.fromstring(file.read_bytes())
    found = top if top.tag == "domain" else top.find("domain")
    return ElementTree.Element("none") if found is None else found


def _names(domain: ElementTree.Element) -> Iterator[tuple[str, str]]:
    """What a guest for x86 needs of its host, by kind (libvirt, formatdomain): a CPU of the mode host-model or
    host-passthrough is whatever the host has."""
    machine = domain.find("os/type")
    if machine is None or machine.get("arch") not in ("x86_64", "i686"):
        return
    cpu, loader = domain.find("cpu/model"), domain.find("os/loader")
    yield "machine_types", machine.get("machine", "")
    if cpu is not None and domain.find("cpu[@mode='custom']") is not None:
        yield "cpu_models", cpu.text or ""
    if loader is not None:
        yield "firmware", loader.text or ""


def _quoted(text: str) -> str:
    """As TOML: a key or a value in quotes has the escapes of JSON."""
    return json.dumps("".join(letter if letter.isprintable() else " " for letter in text), ensure_ascii=False)
