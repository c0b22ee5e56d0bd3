"""Reads the first document of a file as Zuul reads .zuul.yaml, and prints what it refuses: read_zuul.py FILE.

Runs in an environment that has Zuul.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

from zuul import configloader, model
from zuul.lib.ansible import AnsibleManager


def problems(text: str) -> list[str]:
    place = model.SourceContext("example.org/images", "images", "git", "main", ".zuul.yaml")
    config = model.UnparsedConfig()
    config.extend(configloader.safe_load_yaml(text, place))
    # No pipeline is defined here, so no connection to a code review system is asked for its triggers.
    context = configloader.ParseContext(
        SimpleNamespace(connections={}), SimpleNamespace(), SimpleNamespace(), AnsibleManager()
    )
    parsed = configloader.TenantParser.parseConfig(None, config, context)
    if not (parsed.jobs and parsed.projects):
        return ["no job or no project was read"]
    return [error.error for name, errors in vars(parsed).items() if name.endswith("_errors") for error in errors]


if __name__ == "__main__":
    found = problems(Path(sys.argv[1]).read_text("utf-8").split("\n---\n")[0])
    print("\n".join(found))
    sys.exit(1 if found else 0)
