"""The build that a command examines: of the store or the published tree, or a folder of any builder."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path

from harness.build.imported import in_place
from harness.core.errors import UsageError
from harness.diff import Side
from harness.model.artifacts import MANIFEST
from harness.model.definition import DEFINITION_FILE, ImageDefinition, find_images, load_definition
from harness.promotion.select import select


def select_build(
    name: str, tree: str | None, until: ExitStack, *, images: Path | None = None, image: str | None = None
) -> Side:
    """The build called ``name``, with its newest verdict: an image's in the version of its definition, if the store has
    it.

    A folder without a manifest holds another builder's files, of ``image`` or what os-release says. `UsageError` if
    there is no such build.
    """
    if Path(name).is_dir():
        if not (Path(name) / MANIFEST).exists():
            return Side(artifacts=in_place(Path(name), until, image=image or ""))
    elif "@" not in name and (definition := _definition(name, images, is_needed=False)):
        with suppress(UsageError):
            return select(f"{name}@{definition.version}", tree, until)
    return select(name, tree, until)


def definition_of(image: str, images: Path | None) -> ImageDefinition | None:
    """The definition called ``image``, in the folder ``images`` or the one around; None if there is none around."""
    return _definition(image, images, is_needed=images is not None)


def _definition(image: str, images: Path | None, *, is_needed: bool) -> ImageDefinition | None:
    try:
        folder = (images or find_images(Path.cwd())) / image
    except UsageError:
        return None
    return load_definition(folder) if is_needed or (folder / DEFINITION_FILE).is_file() else None
