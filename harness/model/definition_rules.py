"""Reads the rules of an image definition, ``[[check]]`` and the goss files that it names, and its control plane."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from harness.core.config_file import ConfigTable
from harness.model.goss_file import read_goss
from harness.model.rules import GossResource, OwnCheck

_NOT_BLANK = re.compile(r".*\S.*")
_COMMAND = re.compile(r".*\S.*", re.DOTALL)
_NAME = re.compile(r"\w[\w .,/+@'()=-]{0,99}", re.ASCII)
"""Without a colon, which names of goss resources have."""

_CONTROL_PLANE = '"control-plane", or { image = "control-plane", artifacts = "/srv/control-plane" }'


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlaneImage:
    """The image definition of a control plane, beside that of the image which needs it. It is built, unless
    ``artifacts`` is a folder with those that another builder, or another host, made of it."""

    image: str
    artifacts: Path | None = None


def check_regex(row: ConfigTable, key: str, text: str) -> None:
    """`DefinitionError` if the value ``text`` of ``key`` is not a regular expression."""
    try:
        re.compile(text)
    except re.error as error:
        raise row.error(key, f"{text!r} is not a regular expression: {error}", "correct it") from error


def read_checks(top: ConfigTable) -> tuple[OwnCheck, ...]:
    """The tables ``[[check]]``."""
    found = list[OwnCheck]()
    for row in top.tables("check"):
        remedy = "up to 100 letters, digits, blanks and .,/+@'()=-_"
        check = OwnCheck(
            name=row.matching("name", _NAME, "the time zone is UTC", remedy),
            command=row.matching("command", _COMMAND, "date +%Z", "write a command for sh(1)"),
            expect=row.matching("expect", _COMMAND, "^UTC$", "write a regular expression, or leave it out", ""),
            cause=row.matching("cause", _NOT_BLANK, "tzdata is missing", "write the cause in a sentence", ""),
        )
        check_regex(row, "expect", check.expect)
        row.finish()
        if any(other.name == check.name for other in found):
            raise row.error("name", f"{check.name!r} is the name of two checks", "give each its own")
        found.append(check)
    return tuple(found)


def read_goss_files(expect: ConfigTable) -> tuple[GossResource, ...]:
    """The resources in the files that ``[expect] goss`` names."""
    example = '["goss.yaml"]'
    resources = list[GossResource]()
    for name in expect.strings("goss", example, ()):
        file = expect.file.parent / name
        if "/" in name or not file.is_file():
            problem = f"{name} is not a file's name" if "/" in name else f"{name} does not exist"
            raise expect.error("goss", problem, f"put the goss file beside {expect.file}")
        resources += read_goss(file, name)
    return tuple(resources)


def read_control_plane(expect: ConfigTable) -> ControlPlaneImage | None:
    """``[expect] control_plane``: a name, or a table with the artifacts, too."""
    given = expect.content.get("control_plane")
    expect.take("control_plane", dict if isinstance(given, dict) else str, _CONTROL_PLANE, None)
    if given is None:
        return None
    content = given if isinstance(given, dict) else {"image": given}
    row = ConfigTable(expect.file, "expect.control_plane", content)
    image = str(row.take("image", str, '"control-plane"'))
    folder = row.take("artifacts", str, '"/srv/control-plane"', "")
    row.finish()
    images = expect.file.absolute().parents[1]
    if "/" in image or not (images / image / expect.file.name).is_file():
        raise expect.error("control_plane", f"there is no image {image!r} in {images}", "name one that is there")
    if folder and not folder.startswith("/"):
        raise row.error("artifacts", f"{folder!r} is not absolute", "write the whole path of the folder")
    return ControlPlaneImage(image=image, artifacts=Path(folder) if folder else None)
