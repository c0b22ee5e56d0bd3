"""What is normal on any host: ``known.toml``."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("known.toml")


@cache
def _all() -> dict[str, Any]:
    with _FILE.open("rb") as file:
        return tomllib.load(file)


def known(name: str) -> Any:
    return _all()[name]
