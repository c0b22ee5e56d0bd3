"""What diff(1) prints about an image's defaults and a host's data."""

from __future__ import annotations

import pytest

from harness.persistence.seeded_defaults import parse

FIRST = "Files /dev/null and /proc/mounts differ\n"


def test_a_default_that_is_new_or_differs_is_a_sentence_and_a_file_of_the_host_is_none() -> None:
    lines = """\
Only in ./etc/site: new
Only in /data/etc/site: hosts-own
Files ./etc/site/a and /data/etc/site/a differ
Symbolic links ./etc/site/l and /data/etc/site/l differ
File ./etc/site/d is a directory while file /data/etc/site/d is a regular file
"""

    assert parse(FIRST + lines) == {
        "/etc/site/new is new in the image",
        "/etc/site/a differs in the image",
        "/etc/site/l differs in the image",
        "/etc/site/d differs in the image",
    }
    assert parse(FIRST) == frozenset()


@pytest.mark.parametrize("answer", ["Only in ./etc/site: new", FIRST + "xxxxxxxx", "x" * 100])
def test_what_diff_does_not_print_is_an_error(answer: str) -> None:
    with pytest.raises(ValueError, match="not"):
        parse(answer)
