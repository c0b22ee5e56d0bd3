"""Reads ``[persist]`` of an image definition."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness.core.config_file import ConfigTable

_NOT_BLANK = re.compile(r".*\S.*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Validator:
    """A shell ``command`` that ends with another status than 0, and says why, if it does not understand ``path``."""

    path: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSelector:
    """How the image recognizes its persistent disk: exactly one of the three is set; none without persistent paths."""

    serial: str | None = None
    path: str | None = None
    minimum_gib: int | None = None


def read_disk(persist: ConfigTable) -> DiskSelector:
    if not persist.content.get("paths") and "disk" not in persist.content:
        return DiskSelector()
    example = "{ minimum_gib = 4 }"
    table = ConfigTable(persist.file, "persist.disk", persist.take("disk", dict, example))
    if len(table.content) != 1:
        raise persist.error("disk", f"{len(table.content)} keys given", f"exactly one, for example {example}")
    selector = DiskSelector(
        serial=table.take("serial", str, '"S123"', "") or None,
        path=table.take("path", str, '"/dev/sda"', "") or None,
        minimum_gib=table.take("minimum_gib", int, "4", 0) or None,
    )
    table.finish()
    if selector.path and not selector.path.startswith("/dev/"):
        raise table.error("path", f"{selector.path!r} is not a device", 'for example path = "/dev/sda"')
    return selector


def read_persistent_paths(persist: ConfigTable) -> tuple[str, ...]:
    paths = persist.strings("paths", '["/etc/nova"]', *([] if persist.content else [()]))
    for path in paths:
        if not re.fullmatch(r"(/[^/\s]+)+", path) or ".." in path.split("/"):
            raise persist.error("paths", f"{path!r} is not valid", "absolute, no trailing slash: /etc/nova")
        if path == "/data" or path.startswith("/data/"):
            raise persist.error("paths", f"{path!r} is on /data already", "name the path services use")
        inside = [other for other in paths if other.startswith(path + "/")]
        if inside:
            raise persist.error("paths", f"{inside[0]} lies inside {path}", "name only the outer one")
    return paths


def read_inside(persist: ConfigTable, key: str, example: str) -> tuple[str, ...]:
    """Files and folders at or below a persistent path."""
    names = persist.strings(key, example, ())
    for name in names:
        _check_inside(persist, persist, key, name, f"{key} = {example}")
    return names


def _check_inside(persist: ConfigTable, table: ConfigTable, key: str, name: str, example: str) -> None:
    paths = persist.content.get("paths", ())
    is_inside = any(name == path or name.startswith(f"{path}/") for path in paths)
    if not is_inside or ".." in name.split("/") or '"' in name or "\n" in name:
        remedy = f"name a path below one of persist.paths, for example {example}"
        raise table.error(key, f"{name!r} is not in a persistent path", remedy)


def read_validators(persist: ConfigTable) -> Iterator[Validator]:
    for row in persist.tables("validate"):
        path = row.matching("path", _NOT_BLANK, "/etc/nova", "name a file or folder in a persistent path")
        command = row.matching("command", _NOT_BLANK, "site-agent check", "write a shell command")
        row.finish()
        _check_inside(persist, row, "path", path, 'path = "/etc/nova"')
        yield Validator(path=path, command=command)


def read_image_owned(persist: ConfigTable) -> tuple[str, ...]:
    names = read_inside(persist, "image_owned", '["/etc/nova/api-paste.ini"]')
    for name in names:
        if name in persist.content["paths"]:
            remedy = "name a path below one of persist.paths"
            raise persist.error("image_owned", f"{name!r} is a persistent path", remedy)
    return names
