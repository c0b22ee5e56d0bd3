"""dpkg's database, as on Debian and Ubuntu."""

from __future__ import annotations

import re
from collections.abc import Mapping

_STATUS = "var/lib/dpkg/status"
_LIST = re.compile(r"var/lib/dpkg/info/([^/:]+)(?::[^/]+)?\.list")


class Dpkg:
    manager = "dpkg"
    purl_type = "deb"
    list_command = ("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package} ${Version}\\n")
    files = (_STATUS,)
    owner_files = _LIST.pattern
    caches = r"var/lib/(apt|dpkg|ucf|systemd/deb-systemd-[^/]*|update-notifier)/.*"

    def vendor(self, installed: Mapping[str, str]) -> str:
        """Each release has a base-files of its own; Ubuntu's versions say so: "14ubuntu3", Debian's are "13.8"."""
        return "ubuntu" if "ubuntu" in installed.get("base-files", "") else "debian"

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
        """A list may have /bin/sh where /bin is a link to usr/bin: dpkg keeps the names from before folders were
        merged."""
        lists = {found[1]: text for name, text in files.items() if (found := _LIST.fullmatch(name))}
        owned = dict[str, str]()
        for package, text in sorted(lists.items()):
            for line in text.decode("utf-8", "surrogateescape").splitlines():
                path = line.removeprefix("/")
                top, slash, rest = path.partition("/")
                path = f"{links.get(top, top) if slash else top}{slash}{rest}"
                owned[path] = package if owned.get(path, package) == package else ""
        return owned
