"""dpkg's database, as on Debian and Ubuntu."""

from __future__ import annotations

import re
from collections.abc import Mapping

from harness.packages.database import Rights, merged, owned

_STATUS = "var/lib/dpkg/status"
_DIVERSIONS = "var/lib/dpkg/diversions"
_SUMS = re.compile(r"var/lib/dpkg/info/([^/:]+)(?::[^/]+)?\.md5sums")
_CONFFILE = re.compile(r"^ (/\S+) ([0-9a-f]{32})$", re.MULTILINE)
_LIST = re.compile(r"var/lib/dpkg/info/([^/:]+)(?::[^/]+)?\.list")


class Dpkg:
    manager = "dpkg"
    purl_type = "deb"
    list_command = ("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package} ${Version}\\n")
    files = (_STATUS,)
    owner_files = _LIST.pattern
    sum_files = rf"{_SUMS.pattern}|{_DIVERSIONS}|{_STATUS}"
    sum_algorithm = "md5"
    caches = r"var/lib/(apt|dpkg|ucf|systemd/deb-systemd-[^/]*|update-notifier)/.*"

    def vendor(self, installed: Mapping[str, str]) -> str:
        """Each release has a base-files of its own; Ubuntu's versions say so: "14ubuntu3", Debian's are "13.8"."""
        return "ubuntu" if "ubuntu" in installed.get("base-files", "") else "debian"

    def purl_version(self, version: str) -> tuple[str, dict[str, str]]:
        return version, {}

    def read_list(self, printed: str) -> dict[str, str]:
        rows = [line.split() for line in printed.splitlines()]
        return {row[1]: row[2] for row in rows if row[0] == "installed"}

    def read_files(self, files: Mapping[str, bytes]) -> dict[str, str]:
        packages = {}
        for paragraph in files.get(_STATUS, b"").decode("utf-8", "replace").split("\n\n"):
            fields = dict(re.findall(r"^(Package|Status|Version): (.*)$", paragraph, re.MULTILINE))
            if fields.get("Status", "").endswith(" installed"):
                packages[fields["Package"]] = fields["Version"]
        return packages

    def owners(self, files: Mapping[str, bytes], links: Mapping[str, str]) -> dict[str, str]:
        """dpkg keeps the names from before folders were merged."""
        lists = {found[1]: text for name, text in files.items() if (found := _LIST.fullmatch(name))}
        paths = ((package, text.decode("utf-8", "surrogateescape")) for package, text in sorted(lists.items()))
        return owned(((package, path) for package, text in paths for path in text.splitlines()), links)

    def sums(self, files: Mapping[str, bytes], links: Mapping[str, str]) -> dict[str, str]:
        """Conffiles have theirs in the status. A file that another package diverts has another name."""
        lines = files.get(_DIVERSIONS, b"").decode("utf-8", "surrogateescape").splitlines()
        diverted = {at: (to, by) for at, to, by in zip(lines[::3], lines[1::3], lines[2::3], strict=False)}
        status = files.get(_STATUS, b"").decode("utf-8", "surrogateescape")
        found = {merged(path, links): digest for path, digest in _CONFFILE.findall(status)}
        for name, text in files.items():
            if package := _SUMS.fullmatch(name):
                for line in text.decode("utf-8", "surrogateescape").splitlines():
                    digest, _, path = line.partition("  ")
                    to, by = diverted.get(f"/{path}", (path, package[1]))
                    found[merged(path if by == package[1] else to, links)] = digest
        return found

    def rights(self, files: Mapping[str, bytes], links: Mapping[str, str]) -> dict[str, Rights]:  # noqa: ARG002
        return {}  # its database has no modes
