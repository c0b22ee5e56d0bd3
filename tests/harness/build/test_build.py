"""The builder's decisions, its changes to a tree, and the namespaces of its programs."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.build import bootstrap, chroot, configure, distributions, initrd, tree_actions
from harness.core import process
from harness.core.deadline import Deadline, poll
from harness.core.errors import HostError, ImageError
from harness.core.namespaces import prefix
from harness.model.definition import ImageDefinition
from harness.model.definition_build import DISTRIBUTIONS
from harness.model.kernel_image import kernel_version

# What is made again, and what is not


def test_the_first_layer_depends_on_packages_and_suite_alone(definition: ImageDefinition) -> None:
    key = bootstrap.layer_key(definition)

    unchanged = "092d9337351db6c387adc9c125f836eecc40fbfe34fca008cb875a513e119923"
    assert key == unchanged, "all stores would bootstrap again"
    assert bootstrap.layer_key(replace(definition, packages=("dracut", "python3"), name="x")) == key
    assert bootstrap.layer_key(replace(definition, packages=("dracut",))) != key
    assert bootstrap.layer_key(replace(definition, suite="sid")) != key
    assert bootstrap.layer_key(replace(definition, backports=True)) != key


def test_the_second_layer_depends_on_the_first_and_on_the_folder(definition: ImageDefinition) -> None:
    definition.folder.mkdir(parents=True)
    key = configure.layer_key(definition, "one")
    assert configure.layer_key(replace(definition, version="next"), "one") == key
    assert configure.layer_key(definition, "two") != key

    (definition.folder / "playbook.yml").touch()
    assert configure.layer_key(definition, "one") != key


# The playbook's failures, variables and output


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize(
    "said",
    [
        "Temporary failure resolving",
        "curl: (6) Could not resolve host: near.example",
        "curl: (7) Failed to connect to near.example port 80 after 0 ms: Couldn't connect to server",
        "Request failed: <urlopen error [Errno -3] Temporary failure in name resolution>",
    ],
)
def test_a_playbook_without_network_is_the_hosts_fault(
    distribution: str, said: str, definition: ImageDefinition, tmp_path: Path
) -> None:
    (tmp_path / "log").write_text(f'TASK [x] ***\nfatal: [mine]: FAILED! => {{"msg": "{said}"}}\n')

    diagnosis = configure.diagnose(replace(definition, distribution=distribution), tmp_path / "log")

    assert type(diagnosis) is HostError
    assert said in str(diagnosis)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_a_playbook_that_asks_for_a_file_that_is_not_there_is_the_images_fault(
    distribution: str, definition: ImageDefinition, tmp_path: Path
) -> None:
    (tmp_path / "log").write_text(
        'TASK [x] ***\nfatal: [mine]: FAILED! => {"msg": "Status code: 404 for http://near.example/x"}\n'
    )

    assert type(configure.diagnose(replace(definition, distribution=distribution), tmp_path / "log")) is ImageError


def test_a_playbook_gets_the_paths_and_the_disk_as_variables(definition: ImageDefinition) -> None:
    assert configure.variables(definition) == {
        "image_id": "mine",
        "distribution": "debian",
        "suite": "trixie",
        "persistent_paths": ["/etc/nova"],
        "persistent_image_owned": ["/etc/nova/policy"],
        "persistent_disk": {"serial": None, "path": None, "minimum_gib": 4},
    }


def test_the_failing_task_is_quoted_and_not_the_ones_around_it() -> None:
    text = (
        "PLAY [all] ***\n\nTASK [base : one] ***\nok: [mine]\n\n"
        'TASK [base : two] ***\nfatal: [mine]: FAILED! => {"msg": "so it is"}\n\n'
        "PLAY RECAP ***\nmine : ok=1 failed=1\n"
    )
    quoted = configure.failing_task(text)

    assert quoted.startswith("TASK [base : two]")
    assert "so it is" in quoted
    assert "one" not in quoted
    assert "RECAP" not in quoted


def test_a_playbook_that_never_began_is_quoted_from_its_end() -> None:
    assert configure.failing_task("ERROR! no such role\n") == "ERROR! no such role"


# Kernel, modules and initrd


def _bzimage(path: Path, version: str) -> Path:
    head = bytearray(0x4000)
    head[0x202:0x206] = b"HdrS"
    head[0x20E:0x210] = (0x3000).to_bytes(2, "little")
    text = f"{version} (build@host) #1 SMP\0".encode()
    head[0x3200 : 0x3200 + len(text)] = text
    path.write_bytes(head)
    return path


def test_a_kernel_states_its_own_version(tmp_path: Path) -> None:
    assert kernel_version(_bzimage(tmp_path / "vmlinuz", "6.12.57-amd64")) == "6.12.57-amd64"


def test_a_file_that_is_not_a_kernel_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(b"\x7fELF")
    with pytest.raises(ImageError, match="not a bzImage"):
        kernel_version(tmp_path / "vmlinuz")


def test_a_listing_has_dracut_modules_drivers_and_their_kernel() -> None:
    listing = (
        "Image: /mnt/initrd.img: 33M\n====\nVersion: dracut-106\n\ndracut modules:\nbash\nlivenet\n"
        "====\n"
        "drwxr-xr-x  2 root root 0 Nov 20 2026 usr/lib/modules/6.12.57-amd64\n"
        "-rw-r--r--  1 root root 9 Nov 20 2026 usr/lib/modules/6.12.57-amd64/kernel/drivers/net/e1000.ko.xz\n"
        "-rw-r--r--  1 root root 9 Nov 20 2026 usr/lib/modules/6.12.57-amd64/kernel/fs/overlayfs/overlay.ko\n"
    )
    assert initrd.read_listing(listing) == initrd.Initrd(
        dracut_modules=("bash", "livenet"),
        drivers=("e1000", "overlay"),
        kernel_versions=("6.12.57-amd64",),
    )


@pytest.mark.parametrize(
    ("kernel", "modules", "in_initrd"),
    [("6.1", "6.12", ("6.12",)), ("6.12", "6.12", ("6.1",)), ("6.12", "6.12", ()), ("6.1", "6.1", ("6.1", "6"))],
)
def test_kernel_modules_and_initrd_of_different_versions_are_refused(
    kernel: str, modules: str, in_initrd: tuple[str, ...]
) -> None:
    contents = initrd.Initrd(dracut_modules=(), drivers=(), kernel_versions=in_initrd)
    with pytest.raises(ImageError, match="without its drivers"):
        initrd.check_kernel("mine", kernel, modules, contents)


def test_the_archive_behind_an_initrd_has_the_file_and_its_folders() -> None:
    """As Linux reads it: Documentation/driver-api/early-userspace/buffer-format.rst."""
    archive, found, at = initrd.cpio("usr/lib/initrd-release", b"ID=x\n", 1_795_000_000), [], 0
    while at < len(archive):
        fields = [int(archive[at + 6 + 8 * number :][:8], 16) for number in range(13)]
        mode, modified_s, size, name_size = fields[1], fields[5], fields[6], fields[11]
        name, data = archive[at + 110 :][: name_size - 1].decode(), -(-(at + 110 + name_size) // 4) * 4
        found.append((archive[at : at + 6], name, f"{mode:o}", modified_s, archive[data : data + size]))
        at = -(-(data + size) // 4) * 4

    assert found == [
        (b"070701", "usr", "40755", 1_795_000_000, b""),
        (b"070701", "usr/lib", "40755", 1_795_000_000, b""),
        (b"070701", "usr/lib/initrd-release", "100644", 1_795_000_000, b"ID=x\n"),
        (b"070701", "TRAILER!!!", "0", 1_795_000_000, b""),
    ]


def test_a_tree_needs_exactly_one_kernel_and_a_dracut(tmp_path: Path) -> None:
    modules, boot = tmp_path / "usr/lib/modules", tmp_path / "boot"
    with pytest.raises(ImageError, match="no kernel modules"):
        initrd.module_version(tmp_path, distributions.of("debian"))
    (modules / "6.12").mkdir(parents=True)
    with pytest.raises(ImageError, match=r"vmlinuz-6\.12 does not"):
        initrd.module_version(tmp_path, distributions.of("debian"))
    boot.mkdir()
    (boot / "vmlinuz-6.12").touch()
    with pytest.raises(ImageError, match="dracut"):
        initrd.module_version(tmp_path, distributions.of("debian"))
    (modules / "6.1").mkdir()
    with pytest.raises(ImageError, match=r"6\.1, 6\.12"):
        initrd.module_version(tmp_path, distributions.of("debian"))


# Changes to a tree


def _tree(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


IDENTITY = [
    "etc/hostname",
    "etc/resolv.conf",
    "etc/ssh/ssh_host_ed25519_key",
    "etc/ssh/ssh_host_ed25519_key.pub",
    "etc/iscsi/initiatorname.iscsi",
    "etc/nvme/hostnqn",
    "etc/nvme/hostid",
    "etc/ssl/private/ssl-cert-snakeoil.key",
    "etc/openvswitch/system-id.conf",
    "var/lib/systemd/random-seed",
    "var/lib/dbus/machine-id",
    "usr/share/persist/var/lib/openvswitch/conf.db",
]


@pytest.mark.parametrize("name", IDENTITY)
def test_no_identity_stays_in_a_tree(tmp_path: Path, name: str) -> None:
    tree_actions.anonymous(_tree(tmp_path, {name: "x", "etc/machine-id": "0123"}), "0")

    assert not (tmp_path / name).exists()
    assert (tmp_path / "etc/machine-id").read_text() == ""


def test_traces_of_the_build_are_removed_and_folders_stay(tmp_path: Path) -> None:
    _tree(tmp_path, {"var/log/apt/history.log": "x", "var/cache/apt/archives/a.deb": "x", "etc/passwd-": "x"})
    _tree(tmp_path, {"tmp/x/y": "x", "usr/bin/nova": "kept", "etc/machine-id": ""})

    tree_actions.anonymous(tmp_path, "0", "var/cache/apt/")

    assert (tmp_path / "var/log/apt").is_dir()
    files = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(files) == ["etc/machine-id", "usr/bin/nova"]
    assert (tmp_path / "tmp").is_dir()


def test_a_persistent_folder_of_logs_stays_without_the_logs_of_the_build(tmp_path: Path) -> None:
    _tree(tmp_path, {"usr/share/persist/var/log/libvirt/qemu/a.log": "x", "etc/machine-id": ""})
    (tmp_path / "var/log").mkdir(parents=True)
    (tmp_path / "var/log/libvirt").symlink_to("/data/var/log/libvirt")
    (tmp_path / "var/log/README").symlink_to("../../usr/share/doc/systemd/README.logs")

    tree_actions.anonymous(tmp_path, "0")

    assert [path.name for path in (tmp_path / "var/log").iterdir()] == ["libvirt"]
    assert list((tmp_path / "usr/share/persist/var/log/libvirt/qemu").iterdir()) == []


def test_a_resolver_that_is_a_link_stays(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")

    tree_actions.anonymous(tmp_path, "0")

    assert (tmp_path / "etc/resolv.conf").is_symlink()


def test_passwords_are_locked_and_the_day_of_the_build_is_not_in_shadow(tmp_path: Path) -> None:
    _tree(tmp_path, {"etc/shadow": "root:$y$x:20777:0:99999:7:::\nnova:!:20000::::::\n"})

    tree_actions.anonymous(tmp_path, str(20700 * 86400))

    assert (tmp_path / "etc/shadow").read_text() == "root:*:20700:0:99999:7:::\nnova:!:20000::::::\n"


def test_os_release_says_which_image_this_is_once(tmp_path: Path) -> None:
    _tree(tmp_path, {"usr/lib/os-release": 'ID=debian\nVERSION_ID="13"\n'})
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").symlink_to("../usr/lib/os-release")

    tree_actions.stamped(tmp_path, "mine", "1")
    tree_actions.stamped(tmp_path, "mine", "2")

    lines = (tmp_path / "etc/os-release").read_text().splitlines()
    assert lines == ["ID=debian", 'VERSION_ID="13"', 'IMAGE_ID="mine"', 'IMAGE_VERSION="2"']
    assert (tmp_path / "etc/os-release").is_symlink()


def test_nothing_starts_in_a_tree_that_is_worked_on(tmp_path: Path) -> None:
    (tmp_path / "usr/sbin").mkdir(parents=True)
    tree_actions.entered(tmp_path, "nameserver 192.0.2.1")

    policy = tmp_path / "usr/sbin/policy-rc.d"
    with pytest.raises(process.CommandFailed) as caught:
        process.output([str(policy), "ssh", "start"])
    assert caught.value.status == 101
    assert "192.0.2.1" in (tmp_path / "etc/resolv.conf").read_text()


def test_a_tree_before_its_first_package_gets_no_folder_that_a_package_may_have_as_a_link(tmp_path: Path) -> None:
    tree_actions.entered(tmp_path, "nameserver 192.0.2.1")

    assert sorted(path.name for path in tmp_path.rglob("*")) == ["etc", "resolv.conf"]


def test_a_line_is_removed_and_the_others_stay(tmp_path: Path) -> None:
    _tree(tmp_path, {"etc/sources": "deb http://near.example/debian trixie main\ndeb-src x\n"})

    tree_actions.remove_lines(tmp_path, "etc/sources", " http://near.example/debian ")

    assert (tmp_path / "etc/sources").read_text() == "deb-src x\n"


def test_a_pattern_that_ends_with_a_slash_empties_folders(tmp_path: Path) -> None:
    _tree(tmp_path, {"var/cache/a/b/c": "x", "var/lib/d-old": "x", "var/lib/d": "kept"})

    tree_actions.forget(tmp_path, "var/cache/*/", "var/lib/*-old", "no-such/")

    assert (tmp_path / "var/cache/a").is_dir()
    files = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert files == ["var/lib/d"]


# Programs


def test_the_output_of_a_program_is_quoted_though_its_log_is_full(tmp_path: Path) -> None:
    with pytest.raises(process.CommandFailed, match="all is lost"):
        process.run(["sh", "-c", "echo all is lost; exit 3"], log=Path("/dev/full"))

    process.run(["sh", "-c", "echo all is well"], log=tmp_path / "log")
    assert (tmp_path / "log").read_text() == "all is well\n"


def test_a_program_whose_parent_was_quicker_to_end_does_not_run() -> None:
    ours = process.tied_to_us(["echo", "running"], parent=os.getpid())
    theirs = process.tied_to_us(["echo", "running"], parent=1)

    assert process.output(ours) == "running\n"
    with pytest.raises(process.CommandFailed):
        process.output(theirs)


# Namespaces


@pytest.fixture
def log(tmp_path: Path) -> Path:
    try:
        prefix()
    except HostError as error:
        pytest.skip(str(error))
    return tmp_path / "log"


def test_a_build_step_is_root_among_its_own_processes(log: Path) -> None:
    chroot.run(["sh", "-c", "echo $$ $(id -u) $(ls /proc | grep -c '^[0-9]')"], log=log)

    pid, user, _ = log.read_text().split()
    assert (pid, user) == ("1", "0")


def test_a_build_step_sees_no_variable_of_the_user(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_STRATEGY", "odd")
    monkeypatch.setenv("https_proxy", "http://proxy.example")

    chroot.run(["env"], log=log)

    assert "ANSIBLE" not in log.read_text()
    assert "https_proxy=http://proxy.example" in log.read_text()


def test_a_killed_build_leaves_no_process(log: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from harness.build import chroot; "
        "chroot.run(['sh', '-c', 'mount -t tmpfs tmpfs /mnt; echo up; sleep 97.31 & wait'], "
        "log=Path(sys.argv[1]))"
    )
    with process.spawn([sys.executable, "-c", program, str(log)]) as builder:
        assert poll(lambda: log.exists() and "up" in log.read_text(), Deadline(20), every_s=0.02)
        assert poll(_sleepers, Deadline(5), every_s=0.02)
        builder.kill()

    assert poll(lambda: not _sleepers(), Deadline(5), every_s=0.02)
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


def _sleepers() -> list[str]:
    found = []
    for folder in Path("/proc").iterdir():
        if re.fullmatch(r"\d+", folder.name) and folder.name != str(os.getpid()):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            found += [folder.name] if words[:2] == [b"sleep", b"97.31"] else []
    return found
