"""The distributions that images are built of: a file each, with the name in ``build.distribution``."""

from __future__ import annotations

from importlib import import_module

from harness.build.distributions.distribution import Archive, Distribution, FirstTree, HostNeed

__all__ = ["Archive", "Distribution", "FirstTree", "HostNeed", "of"]


def of(name: str) -> Distribution:
    """The distribution of that ``name``, one of `harness.model.definition.DISTRIBUTIONS`."""
    found: Distribution = import_module(f"{__name__}.{name}").DISTRIBUTION
    return found
