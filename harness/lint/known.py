"""Names that lint knows: ``known.toml``."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any


@cache
def _all() -> dict[str, Any]:
    with Path(__file__).with_name("known.toml").open("rb") as file:
        return tomllib.load(file)


def known(name: str) -> Any:
    """The value called ``name`` in ``known.toml``."""
    return _all()[name]
