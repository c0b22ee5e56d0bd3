"""Image definitions: what is wrong is named, with file, key and what would be right."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from harness.core import serialization
from harness.core.errors import DefinitionError, UsageError
from harness.model.definition import (
    Allowance,
    ExpectedError,
    Identity,
    ImageDefinition,
    find_definition,
    find_images,
    load_definition,
    sources_digest,
)
from harness.model.definition_persist import DiskSelector
from harness.model.machine_spec import BootPath

GOOD = """
description = "A test"
version = "2026.11"

[build]
distribution = "debian"
suite = "trixie"
packages = ["systemd-sysv", "python3"]
kernel_arguments = ["quiet"]

[persist]
disk = { minimum_gib = 4 }
paths = ["/etc/nova", "/srv"]

[expect]
services = ["ssh.service"]
sockets = ["libvirtd.socket"]
waiting = ["nova-compute.service"]

[boot]
paths = ["direct", "ipxe-bios"]
memory_mib = 2048

[budget]
boot_s = 60
rootfs_mib = 250
initrd_mib = 50
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images" / "mine"
    folder.mkdir(parents=True)
    (folder / "playbook.yml").write_text("- hosts: all\n")
    (folder / "image.toml").write_text(GOOD)
    return folder


def _changed(folder: Path, old: str, new: str) -> Path:
    assert old in GOOD
    (folder / "image.toml").write_text(GOOD.replace(old, new))
    return folder


def test_a_good_definition_says_what_is_in_its_file(folder: Path) -> None:
    definition = load_definition(folder)

    assert definition.name == "mine"
    assert definition.packages == ("systemd-sysv", "python3")
    assert definition.boot_paths == (BootPath.DIRECT, BootPath.IPXE_BIOS)
    assert (definition.disk.minimum_gib, definition.disk.serial, definition.disk.path) == (4, None, None)
    assert definition.cpus == 2
    assert definition.waiting == ("nova-compute.service",)
    assert definition.boot_idle_s == 10
    assert definition.guest_gap_s is None


def test_a_unit_that_may_wait_can_say_in_which_words_it_does(folder: Path) -> None:
    rows = '[{ unit = "nova-compute.service", says = "AMQP .* unreachable" }, "agent.service"]'

    definition = load_definition(_changed(folder, '["nova-compute.service"]', rows))

    assert definition.waiting == ("nova-compute.service", "agent.service")
    assert definition.waiting_says == {"nova-compute.service": "AMQP .* unreachable"}


def test_a_definition_may_limit_how_long_guests_do_not_answer(folder: Path) -> None:
    assert load_definition(_changed(folder, "boot_s = 60", "boot_s = 60\nguest_gap_s = 90")).guest_gap_s == 90


def test_a_definition_may_allow_no_wait_at_all(folder: Path) -> None:
    assert load_definition(_changed(folder, "boot_s = 60", "boot_s = 60\nboot_idle_s = 0")).boot_idle_s == 0


@pytest.mark.parametrize(
    ("old", "new", "key", "remedy"),
    [
        ('version = "2026.11"', "", "version", "for example"),
        ('version = "2026.11"', 'version = "a b"', "version", "letters"),
        ("suite =", "suit =", "build.suite", "for example"),
        ("kernel_arguments", "kernel_argument", "build.kernel_argument", "kernel_arguments?"),
        ('distribution = "debian"', 'distribution = "gentoo"', "build.distribution", "not a supported distribution"),
        ('"systemd-sysv", "python3"', '"python3", "python3"', "build.packages", "once"),
        ('"systemd-sysv", "python3"', "3", "build.packages", "for example"),
        ("[build]", '[build]\nplaybook = "none.yml"', "build.playbook", "put it beside"),
        ("minimum_gib = 4", 'minimum_gib = 4, serial = "x"', "persist.disk", "exactly one"),
        ("minimum_gib = 4", "", "persist.disk", "exactly one"),
        ("minimum_gib = 4", 'path = "sda"', "persist.disk.path", "/dev/sda"),
        ("minimum_gib = 4", "minimum_gib = 0", "persist.disk.minimum_gib", "for example"),
        ("minimum_gib = 4", "minimum_gib = true", "persist.disk.minimum_gib", "for example"),
        ('"/etc/nova", "/srv"', '"/etc/nova/"', "persist.paths", "no trailing slash"),
        ('"/etc/nova", "/srv"', '"/etc/../srv"', "persist.paths", "absolute"),
        ('"/etc/nova", "/srv"', '"/data/nova"', "persist.paths", "path services use"),
        ('"/etc/nova", "/srv"', '"/srv", "/srv/www"', "persist.paths", "outer"),
        ("[persist]", '[persist]\nimage_owned = ["/etc/other/x"]', "persist.image_owned", "below one of"),
        ("[persist]", '[persist]\ntolerates = ["fire"]', "persist.tolerates", "known: absent, late"),
        ("[expect]", '[network]\ntolerates = ["rain"]\n[expect]', "network.tolerates", "known: dhcp-late"),
        ("[expect]", '[network]\ntolerates = ["link-down"]\n[expect]', "network.tolerates", "end by themselves"),
        ('"ssh.service"', '"ssh"', "expect.services", "ssh.service"),
        ('"libvirtd.socket"', '"libvirtd.service"', "expect.sockets", "libvirtd.socket"),
        ('"nova-compute.service"', '"ssh.service"', "expect.waiting", "control plane"),
        ('"nova-compute.service"', '"nova-compute"', "expect.waiting[0].unit", "name.service"),
        ('"nova-compute.service"', '"a.service", "a.service"', "expect.waiting", "list it once"),
        ('"nova-compute.service"', "5", "expect.waiting[0]", "not a table"),
        ('"nova-compute.service"', '{ unit = "a.service", says = "(" }', "expect.waiting[0].says", "correct it"),
        ('"nova-compute.service"', '{ unit = "a.service", say = "x" }', "expect.waiting[0].say", "did you mean says?"),
        ('"nova-compute.service"', '{ says = "x" }', "expect.waiting[0].unit", "for example"),
        ('"direct", "ipxe-bios"', '"floppy"', "boot.paths", "known: direct"),
        ('"direct", "ipxe-bios"', "", "boot.paths", "at least one"),
        ("memory_mib = 2048", 'memory_mib = "2G"', "boot.memory_mib", "2048"),
        ("memory_mib = 2048", 'hardware = ["sata"]\nmemory_mib = 2048', "boot.hardware", "sata-bios"),
        ("[budget]", "[budgets]", "budget.boot_s", "for example"),
        ("boot_s = 60", 'boot_s = 60\nboot_idle_s = "5"', "budget.boot_idle_s", "from 0"),
        ("boot_s = 60", "boot_s = 60\nguest_gap_s = 0", "budget.guest_gap_s", "from 1"),
        ("[boot]", '[[boot]]\nx = "y"', "boot", "for example"),
    ],
)
def test_what_is_wrong_is_named_with_what_would_be_right(
    folder: Path, old: str, new: str, key: str, remedy: str
) -> None:
    with pytest.raises(DefinitionError) as caught:
        load_definition(_changed(folder, old, new))

    assert caught.value.key == key
    assert caught.value.file == str(folder / "image.toml")
    assert remedy in str(caught.value)


RPM = """
distribution = "fedora"
repositories = [{ url = "https://near.example/$releasever/os", key = "KEY" }]
"""


def test_an_rpm_family_names_its_repositories_and_packages_of_any_case(folder: Path) -> None:
    (folder / "KEY").touch()
    old = 'distribution = "debian"\nsuite = "trixie"\npackages = ["systemd-sysv", "python3"]'

    definition = load_definition(_changed(folder, old, f'{RPM}suite = "42"\npackages = ["NetworkManager", "perl_x"]'))

    assert [(one.url, one.key) for one in definition.repositories] == [
        ("https://near.example/$releasever/os", folder / "KEY")
    ]
    assert definition.packages == ("NetworkManager", "perl_x")


_URLS = [
    "http://192.0.2.1:8080/a//b/%20x",
    "http://[2001:db8::1]:80/$basearch/$releasever-x",
    "file:///srv/mirror/$releasever",
    "https://near.example",
]
_BAD_URLS = [
    "https://user:secret@near.example/x",
    "https://near.example/x,http://far.example/y",
    "https://near.example/ü",
    "https://nür.example/x",
    "http://[x/y",
    "http://[1:2]/y",
    "http:///x",
    "https://a..example/x",
    "http://near.example:port/x",
    "http://near.example:65536/x",
    "http://near.example/a%zz",
    "http://near.example/$arch",
    "http://near.example/$releasever_major",
    "http://near.example/${releasever}",
    "file://near.example/x",
]


@pytest.mark.parametrize("url", _URLS)
def test_a_repository_may_be_at_any_url_with_the_two_variables(folder: Path, url: str) -> None:
    (folder / "KEY").touch()
    new = RPM.replace("https://near.example/$releasever/os", url)

    assert load_definition(_changed(folder, 'distribution = "debian"', new)).repositories[0].url == url


@pytest.mark.parametrize("url", _BAD_URLS)
def test_a_url_that_dnf_or_zypper_would_take_otherwise_is_refused(folder: Path, url: str) -> None:
    (folder / "KEY").touch()
    new = RPM.replace("https://near.example/$releasever/os", url)

    with pytest.raises(DefinitionError) as caught:
        load_definition(_changed(folder, 'distribution = "debian"', new))

    assert caught.value.key == "build.repositories[0].url"


@pytest.mark.parametrize("name", ["bash-0:5.2.26-3.fc42.x86_64", "libstdc++", "rpm", "x.rpms"])
def test_an_rpm_may_have_an_epoch_and_a_version(folder: Path, name: str) -> None:
    (folder / "KEY").touch()
    new = f'{RPM}packages = ["{name}", "python3"]'
    old = 'distribution = "debian"\nsuite = "trixie"\npackages = ["systemd-sysv", "python3"]'

    assert load_definition(_changed(folder, old, f'{new}\nsuite = "42"')).packages[0] == name


@pytest.mark.parametrize("name", ["payload.rpm", "pattern:base", "package:bash", "patch:x-1:2", "/tmp/x.rpm", "@core"])
def test_a_file_or_a_group_is_not_the_name_of_an_rpm(folder: Path, name: str) -> None:
    (folder / "KEY").touch()
    new = f'{RPM}packages = ["{name}", "python3"]'
    old = 'distribution = "debian"\nsuite = "trixie"\npackages = ["systemd-sysv", "python3"]'

    with pytest.raises(DefinitionError, match="is not a valid package name"):
        load_definition(_changed(folder, old, f'{new}\nsuite = "42"'))


@pytest.mark.parametrize(
    ("old", "new", "key", "remedy"),
    [
        ('"fedora"', '"debian"', "build.repositories", "is for fedora, centos, opensuse"),
        ('"KEY"', '"none"', "build.repositories[0].key", "put the file with the public keys beside"),
        ('"KEY"', '"../mine/KEY"', "build.repositories[0].key", "put the file with the public keys beside"),
        ('"KEY"', '"KEY", gpgcheck = false', "build.repositories[0].gpgcheck", "is not a known key"),
        ("https:", "ftp:", "build.repositories[0].url", "a URL of http, https or file"),
        ("/os", "/os/", "build.repositories[0].url", "no slash at its end"),
        ("repositories", "backports = true\nrepositories", "build.backports", "name another one in build.repositories"),
        (', key = "KEY"', "", "build.repositories[0].key", "is missing"),
        (
            "[{",
            '[{ url = "https://near.example/$releasever/os", key = "KEY" }, {',
            "build.repositories",
            "is listed twice",
        ),
        ("[{", "[] #", "build.repositories", "is missing or empty, and fedora needs it; name at least one"),
    ],
)
def test_a_repository_that_is_not_right_is_named(folder: Path, old: str, new: str, key: str, remedy: str) -> None:
    (folder / "KEY").touch()
    assert old in RPM

    with pytest.raises(DefinitionError) as caught:
        load_definition(_changed(folder, 'distribution = "debian"', RPM.replace(old, new)))

    assert caught.value.key == key
    assert remedy in str(caught.value)


def test_what_is_not_toml_is_named_with_its_place(folder: Path) -> None:
    with pytest.raises(DefinitionError, match="line 2"):
        load_definition(_changed(folder, 'description = "A test"', "description = nothing"))


def test_a_folder_without_a_definition_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no image\.toml"):
        load_definition(tmp_path)


def test_images_are_found_upwards(folder: Path) -> None:
    below = folder.parent.parent / "tests" / "deep"
    below.mkdir(parents=True)

    assert find_images(below) == folder.parent
    with pytest.raises(UsageError, match="--images-dir"):
        find_images(Path("/"))


@pytest.mark.parametrize(
    ("name", "hint"), [("mne", "did you mean mine"), ("x", "known: mine"), ("../images/mine", "no image")]
)
def test_an_unknown_image_lists_those_that_exist(folder: Path, name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        find_definition(name, folder.parent)


def test_the_sources_digest_covers_roles_and_the_folder_but_not_where_it_lies(folder: Path, tmp_path: Path) -> None:
    before = sources_digest(load_definition(folder))
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    folder.parent.rename(moved / "images")
    assert sources_digest(_read(moved)) == before

    (moved / "images" / "roles").mkdir()
    (moved / "images" / "roles" / "main.yml").touch()
    with_role = sources_digest(_read(moved))
    (moved / "images" / "mine" / "script").touch()

    assert len({before, with_role, sources_digest(_read(moved))}) == 3


def _read(place: Path) -> ImageDefinition:
    return load_definition(place / "images" / "mine")


def test_a_definition_without_persistent_paths_needs_no_disk(folder: Path) -> None:
    table = '[persist]\ndisk = { minimum_gib = 4 }\npaths = ["/etc/nova", "/srv"]\n'
    for replacement in ("", "[persist]\n", "[persist]\npaths = []\n"):
        definition = load_definition(_changed(folder, table, replacement))

        assert (definition.persistent_paths, definition.disk) == ((), DiskSelector())


def test_only_without_persistent_paths_the_identity_may_be_new_at_each_boot(folder: Path) -> None:
    table = '[persist]\ndisk = { minimum_gib = 4 }\npaths = ["/etc/nova", "/srv"]\n\n[expect]\n'
    assert load_definition(folder).identity is Identity.KEPT

    new = load_definition(_changed(folder, table, '[expect]\nidentity = "new-each-boot"\n'))

    assert new.identity is Identity.NEW_EACH_BOOT
    with pytest.raises(DefinitionError, match=r"expect\.identity: an image with persistent paths keeps its identity"):
        load_definition(_changed(folder, "[expect]", '[expect]\nidentity = "new-each-boot"'))
    with pytest.raises(DefinitionError, match=r"expect\.identity: 'new' is not a rule for the identity"):
        load_definition(_changed(folder, "[expect]", '[expect]\nidentity = "new"'))


ALLOW = '[[lint.allow]]\npath = "/etc/hosts"\nreason = "the lab"\nuntil = 2027-03-01\n\n[budget]'


def test_findings_of_lint_are_allowed_by_path_reason_and_day(folder: Path) -> None:
    definition = load_definition(_changed(folder, "[budget]", ALLOW))

    assert definition.lint_allow == (Allowance(path="/etc/hosts", reason="the lab", until=date(2027, 3, 1)),)
    assert serialization.load(ImageDefinition, serialization.dump(definition)) == definition


HOST = """\
listens = ["tcp 0.0.0.0:22 sshd", "udp [::]:* *", "packet *:88CC lldpd in blue"]

[[expect.errors]]
message = "^no sensor"
reason = "none here"

[[host.allow]]
path = "swap:/dev/zram0"
reason = "8 GiB"

[[soak.allow]]
path = "unit:agent.service"
reason = "restarted every night"

[budget]"""


def _with_host(folder: Path, text: str = HOST) -> ImageDefinition:
    return load_definition(_changed(folder, "\n[boot]", f"{text.removesuffix('[budget]')}\n[boot]"))


def test_what_a_running_host_may_have_is_declared(folder: Path) -> None:
    definition = _with_host(folder)

    assert definition.listens == ("tcp 0.0.0.0:22 sshd", "udp [::]:* *", "packet *:88CC lldpd in blue")
    assert definition.expected_errors == (ExpectedError(message="^no sensor", reason="none here"),)
    assert definition.host_allow == (Allowance(path="swap:/dev/zram0", reason="8 GiB"),)
    assert definition.soak_allow == (Allowance(path="unit:agent.service", reason="restarted every night"),)
    assert serialization.load(ImageDefinition, serialization.dump(definition)) == definition


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("tcp 0.0.0.0:22 sshd", "0.0.0.0:22", "expect.listens"),
        ("tcp 0.0.0.0:22 sshd", "tcp 22 sshd", "expect.listens"),
        ("tcp 0.0.0.0:22 sshd", "tcp 0.0.0.0:22 sshd blue", "expect.listens"),
        ("^no sensor", "(", "expect.errors[0].message"),
        ('reason = "none here"\n', "", "expect.errors[0].reason"),
        ('reason = "8 GiB"\n', "", "host.allow[0].reason"),
        ("swap:/dev/zram0", "zram0", "host.allow[0].path"),
    ],
)
def test_a_mistake_in_what_a_host_may_have_is_named(old: str, new: str, key: str, folder: Path) -> None:
    with pytest.raises(DefinitionError) as caught:
        _with_host(folder, HOST.replace(old, new))

    assert caught.value.key == key


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('"/etc/hosts"', '"etc/hosts"', "lint.allow[0].path"),
        ('reason = "the lab"\n', "", "lint.allow[0].reason"),
        ('"the lab"', '" "', "lint.allow[0].reason"),
        ("2027-03-01", '"2027-03-01"', "lint.allow[0].until"),
        ("until", "expires", "lint.allow[0].expires"),
    ],
)
def test_a_mistake_in_an_allowance_is_named(old: str, new: str, key: str, folder: Path) -> None:
    with pytest.raises(DefinitionError) as caught:
        load_definition(_changed(folder, "[budget]", ALLOW.replace(old, new)))

    assert caught.value.key == key
