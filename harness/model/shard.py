"""A run in shards: the plan that all hosts share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from harness.core.serialization import Format
from harness.model.definition import ImageDefinition
from harness.model.events import PlannedTest
from harness.model.machine_spec import BootPath

ROLES = ("old", "new", "newest")
"""Of artifacts that machines boot: an upgrade goes from the first to the second, then to the third."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePlan:
    """What all shards together prove of one image.

    ``digests`` are those that a verdict is bound to (`Verdict.digests`); ``versions`` maps each of `ROLES` to the
    digest of its artifacts. ``tests`` are all planned tests, ``expected_s`` maps them to seconds.
    """

    definition: ImageDefinition
    boot_paths: tuple[BootPath, ...]
    is_thorough: bool
    digests: dict[str, str]
    versions: dict[str, str]
    tests: tuple[PlannedTest, ...]
    expected_s: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def artifacts(self) -> tuple[str, ...]:
        """The digests of all artifacts that machines boot, those under test first."""
        return tuple(dict.fromkeys((self.digests["artifacts"], *self.versions.values())))


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What one run would do: its tests and the ``settings`` that decide what they prove, by option.

    A host runs ``lanes`` boots at the same time, and one takes ``boot_s``.
    """

    images: tuple[ImagePlan, ...]
    settings: dict[str, str]
    boot_s: float
    lanes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """The tests of one host, and about how long it needs for them."""

    tests: tuple[str, ...]
    expected_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardPlan:
    """The tests of a whole run, cut into ``shards``. ``options`` are the arguments of pytest that each host repeats."""

    FORMAT: ClassVar[Format] = Format(kind="a plan", number=1)

    format: int = 1
    options: tuple[str, ...]
    collected: Collected
    shards: tuple[Shard, ...]

    def image(self, name: str) -> ImagePlan:
        return next(image for image in self.collected.images if image.name == name)
