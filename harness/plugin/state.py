"""What one pytest process knows of a run of Bootproof."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness import record
from harness.definition import ImageDefinition, find_definition, find_images
from harness.errors import UsageError
from harness.run import Run
from harness.session import Prepared
from harness.spec import BootPath
from harness.verdict import Verdict

SUITE = "tests/image"


@dataclass(slots=True, kw_only=True)
class Bootproof:
    """The definitions are known from the start, the rest once the controller has prepared it."""

    definitions: dict[str, ImageDefinition]
    boot_paths: tuple[BootPath, ...]
    worker: str
    suite: Path
    prepared: dict[str, Prepared] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    started_s: float = field(default_factory=time.time)

    @property
    def is_controller(self) -> bool:
        """Of all workers, or the only process there is."""
        return self.worker == "main"

    def paths_of(self, image: str) -> tuple[BootPath, ...]:
        """The boot paths to try: the definition's, or those of ``--boot-path``."""
        return self.boot_paths or self.definitions[image].boot_paths

    def favourite_path_of(self, image: str) -> BootPath:
        """The path for tests that need just one: over the network if the image comes up that way."""
        paths = self.paths_of(image)
        return BootPath.IPXE_BIOS if BootPath.IPXE_BIOS in paths else paths[0]

    def use(self, prepared: Prepared) -> None:
        self.prepared[prepared.image] = prepared
        self.runs[prepared.image] = Run(prepared.run_folder, self.worker)


KEY = pytest.StashKey[Bootproof]()


def read_state(config: pytest.Config) -> Bootproof:
    """The state at the start of this process; a worker gets what the controller prepared."""
    option = config.option
    if option.artifacts and len(set(option.image)) > 1:
        raise UsageError("--artifacts are those of one image; name one --image")
    if option.kernel_arguments is not None and not option.artifacts:
        raise UsageError("--kernel-arguments go with --artifacts; a definition has its own in [build]")
    root = _root(config)
    images = Path(option.images_dir).absolute() if option.images_dir else find_images(root)
    given = getattr(config, "workerinput", {})
    state = Bootproof(
        definitions={name: find_definition(name, images) for name in dict.fromkeys(option.image)},
        boot_paths=tuple(BootPath(path) for path in option.boot_path),
        worker=given.get("workerid", "main"),
        suite=root / SUITE,
    )
    if not state.suite.is_dir():
        raise UsageError(f"{state.suite} does not exist: it holds what an image must prove")
    for plain in given.get("bootproof", {}).values():
        state.use(record.load(Prepared, plain))
    return state


def _root(config: pytest.Config) -> Path:
    """pytest takes the values of ``--run-dir DIR`` and its like for test paths when it looks for its rootdir."""
    invoked = config.invocation_params.dir
    return config.rootpath if (config.rootpath / SUITE).is_dir() else invoked
