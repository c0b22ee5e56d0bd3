"""The package URLs of a bill of materials, as purl-spec has them for each package manager."""

from __future__ import annotations

import json

import pytest

from harness.model.artifacts import Manifest
from harness.promotion.attest import sbom


@pytest.mark.parametrize(
    ("packages", "url"),
    [
        ({"dpkg": "1.22.21", "base-files": "13.8"}, "pkg:deb/debian/dpkg@1.22.21"),
        ({"rpm": "1:4.20.1-1.fc42", "fedora-release": "42-1"}, "pkg:rpm/fedora/rpm@4.20.1-1.fc42?epoch=1"),
        ({"rpm": "4.20.1-3.1", "openSUSE-release": "20261101-1"}, "pkg:rpm/opensuse/rpm@4.20.1-3.1"),
        ({"rpm": "4.20.1-3.1"}, "pkg:rpm/rpm@4.20.1-3.1"),
        ({"pacman": "7.0.0-1"}, "pkg:alpm/arch/pacman@7.0.0-1"),
        ({"apk-tools": "2.14.4-r1"}, "pkg:apk/alpine/apk-tools@2.14.4-r1"),
        ({"mine": "1.0"}, "pkg:generic/mine@1.0"),
    ],
)
def test_a_package_has_the_url_of_its_package_manager(packages: dict[str, str], url: str) -> None:
    manifest = Manifest(
        image="mine", version="1", kernel_version="6.12", kernel_arguments=(), files={}, packages=packages,
        dracut_modules=(), initrd_drivers=(), definition="", sources={}, builder={},
    )  # fmt: skip

    assert url in [component["purl"] for component in json.loads(sbom(manifest))["components"]]
