"""Planted faults in the files of `base`: lint names each of them, and nothing in the good image. Nothing is booted.

Each plant is a small change by a shell in the unpacked root file system. Those that would hide each other are in
different trees.
"""

# ruff: noqa: E501  # a plant is one line of a shell

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import pytest

from harness.build import chroot
from harness.cli.main import main
from harness.core import serialization
from harness.lint import LintFinding, lint
from harness.model.artifacts import INITRD, KERNEL, MANIFEST, Artifacts, describe
from harness.model.definition import Allowance, ImageDefinition
from harness.model.verdict import Outcome

from .conftest import Judge


@dataclass(frozen=True)
class Plant:
    """A change of a tree, and the finding that it must give about ``path``."""

    id: str
    path: str
    shell: str


UNITS = "/etc/systemd/system"
RPM_DATABASE = Path(__file__).parents[1] / "harness" / "packages" / "rpmdb.sqlite.gz"
"""Of dash and others: it has modes, which dpkg's has not."""
UNIT = r"""unit() { printf "$2" > etc/systemd/system/$1; ln -s ../$1 etc/systemd/system/multi-user.target.wants/$1; }
"""

MANY = (
    # it cannot boot, or not as one
    Plant("folder-wrong", "/", "chmod 0700 ."),
    Plant("folder-wrong", "/tmp", "chmod 0755 tmp"),
    Plant("folder-wrong", "/sys", "rmdir sys"),
    Plant("os-release-wrong", "/usr/lib/os-release", "sed -i s/^IMAGE_VERSION=.*/IMAGE_VERSION=1999.01/ usr/lib/os-release"),
    Plant("library-missing", "/usr/bin/curl", "rm usr/lib/x86_64-linux-gnu/libcurl.so.4*"),
    Plant("program-damaged", "/usr/bin/ip", "truncate -s 20000 usr/bin/ip"),
    Plant("program-damaged", "/usr/bin/ps", ": > usr/bin/ps"),
    Plant("wrong-architecture", "/usr/local/bin/agent",
          r"cp usr/bin/true usr/local/bin/agent; printf '\267\000' | dd of=usr/local/bin/agent bs=1 seek=18 conv=notrunc"),
    Plant("interpreter-missing", "/usr/local/bin/report", "printf '#!/usr/bin/perl6\\n' > usr/local/bin/report; chmod 755 usr/local/bin/report"),
    Plant("interpreter-missing", "/usr/local/bin/tool", "printf '#!/usr/bin/env ruby\\n' > usr/local/bin/tool; chmod 755 usr/local/bin/tool"),
    Plant("package-file-changed", "/usr/lib/dracut/dracut-functions.sh", "echo exit >> usr/lib/dracut/dracut-functions.sh"),
    Plant("package-file-changed", "/usr/bin/zstdgrep", "rm usr/bin/zstdgrep"),
    Plant("modules-not-indexed", "{modules}/modules.dep", "rm .{modules}/kernel/drivers/net/dummy.ko.xz"),
    Plant("modules-not-indexed", "{modules}/modules.alias.bin", ": > .{modules}/modules.alias.bin"),
    Plant("compression-unreadable", "/boot/config-{version}", "sed -i s/^CONFIG_SQUASHFS_ZSTD=y/CONFIG_SQUASHFS_ZSTD=n/ boot/config-*"),
    Plant("compression-unreadable", "/usr/lib/x86_64-linux-gnu/libkmod.so.2.5.1", "rm usr/lib/x86_64-linux-gnu/liblzma.so.5*"),
    # units
    Plant("unit-program-missing", f"{UNITS}/agent.service", "unit agent.service '[Service]\\nExecStart=/opt/agent/run\\n'"),
    Plant("unit-user-missing", f"{UNITS}/other.service", "unit other.service '[Service]\\nExecStart=/usr/bin/true\\nUser=agentd\\n'"),
    Plant("unit-missing", f"{UNITS}/multi-user.target.wants/gone.service", f"ln -s /usr/lib/systemd/system/gone.service .{UNITS}/multi-user.target.wants/"),
    Plant("unit-missing", f"{UNITS}/ssh.service.d/needs.conf", f"mkdir -p .{UNITS}/ssh.service.d; printf '[Unit]\\nRequires=vault.service\\n' > .{UNITS}/ssh.service.d/needs.conf"),
    Plant("unit-masked", f"{UNITS}/systemd-resolved.service", f"ln -s /dev/null .{UNITS}/systemd-resolved.service"),
    Plant("unit-not-enabled", "/usr/lib/systemd/system/systemd-networkd.service",
          f"find .{UNITS} -name '*networkd*' -delete; find .{UNITS} -name 'dbus-org.freedesktop.network1.service' -delete; find usr/lib/systemd/system -path '*.wants/*networkd*' -delete"),
    Plant("ordering-cycle", f"{UNITS}/one.service",
          "unit one.service '[Unit]\\nAfter=two.service\\n[Service]\\nExecStart=/usr/bin/true\\n'; unit two.service '[Unit]\\nAfter=one.service\\n[Service]\\nExecStart=/usr/bin/true\\n'"),
    Plant("drop-in-for-nothing", f"{UNITS}/nova-compute.service.d/wait.conf", f"mkdir .{UNITS}/nova-compute.service.d; printf '[Unit]\\nAfter=x.target\\n' > .{UNITS}/nova-compute.service.d/wait.conf"),
    Plant("drop-in-for-nothing", f"{UNITS}/ssh.service.d/limits.cfg", f"printf '[Service]\\nLimitNOFILE=9\\n' > .{UNITS}/ssh.service.d/limits.cfg"),
    Plant("unit-malformed", f"{UNITS}/misspelt.service", "unit misspelt.service '[Service]\\nExecStart=/usr/bin/true\\nExecStrat=/usr/bin/true\\n'"),
    Plant("unit-malformed", f"{UNITS}/empty.service", "unit empty.service '[Unit]\\nDescription=x\\n'"),
    Plant("restarts-forever", f"{UNITS}/forever.service", "unit forever.service '[Unit]\\nStartLimitIntervalSec=0\\n[Service]\\nExecStart=/usr/bin/true\\nRestart=always\\n'"),
    Plant("timer-wrong", f"{UNITS}/backup.timer", "unit backup.timer '[Timer]\\nOnCalendar=daily\\n'"),
    Plant("timer-wrong", f"{UNITS}/never.timer", "unit never.timer '[Timer]\\nUnit=ssh.service\\n'"),
    Plant("generator-cannot-run", "/etc/systemd/system-generators/site", "printf '#!/bin/sh\\n' > etc/systemd/system-generators/site; chmod 644 etc/systemd/system-generators/site"),
    Plant("tmpfiles-conflict", "/usr/lib/tmpfiles.d/zz-site.conf", "printf 'd /run/sshd 0777 root root -\\n' > usr/lib/tmpfiles.d/zz-site.conf"),
    Plant("tmpfiles-conflict", "/etc/tmpfiles.d/site.conf", "printf 'd /run/site 0755 nosuch root -\\n' > etc/tmpfiles.d/site.conf"),
    Plant("sysusers-conflict", "/usr/lib/sysusers.d/site.conf", "printf 'u site 1 - -\\n' > usr/lib/sysusers.d/site.conf"),
    Plant("module-to-load-missing", "/etc/modules-load.d/site.conf", "echo no_such_module > etc/modules-load.d/site.conf"),
    Plant("sysctl-without-module", "/etc/sysctl.d/50-site.conf", "echo net.bridge.bridge-nf-call-iptables=1 > etc/sysctl.d/50-site.conf"),
    # left over from the builder
    Plant("builder-identity", "/etc/machine-id", "chmod 644 etc/machine-id; echo 0123456789abcdef0123456789abcdef > etc/machine-id"),
    Plant("builder-identity", "/etc/ssh/ssh_host_ed25519_key.pub", "echo ssh-ed25519 AAAA > etc/ssh/ssh_host_ed25519_key.pub"),
    Plant("builder-identity", "/var/lib/systemd/random-seed", "head -c 512 /dev/urandom > var/lib/systemd/random-seed"),
    Plant("builder-hostname", "/etc/hostname", "echo runner-7 > etc/hostname"),
    Plant("builder-hostname", "/etc/hosts", "echo '10.0.0.7 runner-7' >> etc/hosts"),
    Plant("builder-dns", "/etc/resolv.conf", "rm etc/resolv.conf; echo nameserver 10.0.0.1 > etc/resolv.conf; chmod 600 etc/resolv.conf"),
    Plant("builder-mounts", "/etc/fstab", "echo 'UUID=1234-ABCD /boot/efi vfat defaults 0 1' >> etc/fstab"),
    Plant("builder-mounts", "/etc/crypttab", "echo 'swap /dev/sda3 /dev/urandom swap' > etc/crypttab"),
    Plant("builder-proxy", "/etc/apt/apt.conf.d/01proxy", "echo 'Acquire::http::Proxy \"http://10.0.0.1:3142\";' > etc/apt/apt.conf.d/01proxy"),
    Plant("builder-proxy", "/etc/environment", "echo https_proxy=http://10.0.0.1:3128 >> etc/environment"),
    Plant("builder-credentials", "/etc/apt/auth.conf.d/site.conf", "echo machine mirror.example login ci password hunter2 > etc/apt/auth.conf.d/site.conf"),
    Plant("builder-credentials", "/etc/pip.conf", "printf '[global]\\nindex-url = https://ci:s3cret@pypi.example/simple\\n' > etc/pip.conf"),
    Plant("authorized-keys", "/root/.ssh/authorized_keys", "echo ssh-ed25519 AAAA ann@laptop > root/.ssh/authorized_keys"),
    Plant("authorized-keys", "/home/ci/.ssh/authorized_keys", "mkdir -p home/ci/.ssh; echo ssh-rsa AAAA > home/ci/.ssh/authorized_keys"),
    Plant("builder-traces", "/root/.bash_history", "echo ls > root/.bash_history"),
    Plant("builder-traces", "/tmp/ansible.x", "echo x > tmp/ansible.x"),
    Plant("caches-left", "/var/cache/apt/archives/x_1_amd64.deb", "mkdir -p var/cache/apt/archives; echo x > var/cache/apt/archives/x_1_amd64.deb"),
    Plant("clock-not-utc", "/etc/adjtime", "printf '0.0 0 0.0\\n0\\nLOCAL\\n' > etc/adjtime"),
    Plant("clock-not-utc", "/etc/localtime", "ln -sf /usr/share/zoneinfo/Nowhere etc/localtime"),
    Plant("logs-left", "/var/log/bootstrap.log", "echo x > var/log/bootstrap.log"),
    Plant("core-file", "/core.4711", "echo x > core.4711"),
    # secrets and doors
    Plant("secret-in-file", "/opt/site/tls.pem",
          "mkdir -p opt/site; { echo '-----BEGIN PRIVATE KEY-----'; head -c 300 /dev/urandom | base64; echo '-----END PRIVATE KEY-----'; } > opt/site/tls.pem"),
    Plant("secret-in-file", "/etc/default/site", "echo TOKEN=ghp_$(printf 'a%.0s' $(seq 36)) > etc/default/site"),
    Plant("password-open", "/etc/shadow", "sed -i 's/^root:[^:]*/root:$6$abc$def/; s/^daemon:[^:]*/daemon:/' etc/shadow"),
    Plant("password-open", "/etc/passwd", "echo 'toor:x:0:0::/root:/bin/bash' >> etc/passwd"),
    Plant("sshd-open", "/etc/ssh/sshd_config.d/00-site.conf", "printf 'PermitRootLogin yes\\nPermitEmptyPasswords yes\\n' > etc/ssh/sshd_config.d/00-site.conf"),
    Plant("setid-unexpected", "/usr/bin/find", "chmod u+s usr/bin/find"),
    Plant("setid-lost", "/usr/bin/su", "chmod u-s usr/bin/su"),
    Plant("setid-lost", "/usr/bin/arping", "cp usr/bin/arping x; mv x usr/bin/arping"),
    Plant("setid-unexpected", "/usr/bin/nice", "setcap cap_sys_admin+ep usr/bin/nice"),
    Plant("world-writable", "/usr/local/bin/open", "echo x > usr/local/bin/open; chmod 777 usr/local/bin/open"),
    Plant("world-writable", f"{UNITS}/shared.service", "unit shared.service '[Service]\\nExecStart=/usr/bin/true\\n'; chmod 666 etc/systemd/system/shared.service"),
    Plant("owner-wrong", "/usr/local/lib/site", "echo x > usr/local/lib/site; chown 1 usr/local/lib/site"),
    Plant("owner-wrong", "/srv/data", "echo x > srv/data; chown 4242 srv/data"),
    Plant("socket-on-network", f"{UNITS}/door.socket",
          f"printf '[Socket]\\nListenStream=0.0.0.0:2323\\n' > .{UNITS}/door.socket; printf '[Service]\\nExecStart=/usr/bin/true\\n' > .{UNITS}/door.service;"
          f"ln -s ../door.socket .{UNITS}/sockets.target.wants/door.socket"),
    Plant("sudo-open", "/etc/sudoers.d/ci", "mkdir -p etc/sudoers.d; echo 'ci ALL=(ALL) NOPASSWD: ALL' > etc/sudoers.d/ci; chmod 440 etc/sudoers.d/ci"),
    Plant("polkit-open", "/etc/polkit-1/rules.d/10-site.rules", "mkdir -p etc/polkit-1/rules.d; echo 'polkit.addRule(function(a,s){return polkit.Result.YES;});' > etc/polkit-1/rules.d/10-site.rules"),
    # what was declared, and sizes
    Plant("boot-path-program-missing", "/usr/sbin/kexec", "rm usr/sbin/kexec"),
    Plant("persistent-path-wrong", "/etc/systemd/network", "rm etc/systemd/network; mkdir etc/systemd/network; echo x > etc/systemd/network/10-site.network"),
    Plant("persistent-path-wrong", "/data/site", "echo x > data/site"),
    Plant("number-drifts", "/etc/passwd", "sed -i 's/^sshd:x:[0-9]*/sshd:x:777/' etc/passwd"),
    Plant("firmware-missing", "/usr/lib/firmware", "mkdir -p .{modules}/kernel/drivers/scsi/megaraid; echo x > .{modules}/kernel/drivers/scsi/megaraid/x.ko"),
    Plant("image-grew", "artifacts:rootfs.squashfs", "head -c 40000000 /dev/urandom > opt/site/data"),
)  # fmt: skip
MORE = (
    # it cannot boot, or not as one
    Plant("folder-wrong", "/var/run", "rm var/run; mkdir var/run"),
    Plant("folder-wrong", "/dev", "chown 5 dev"),
    Plant("folder-wrong", "/run", "chmod 0777 run"),
    Plant("library-missing", "/usr/bin/curl", ": > usr/lib/x86_64-linux-gnu/libcurl.so.4*.*.*"),
    Plant("wrong-architecture", "/opt/agent/agent",
          r"mkdir -p opt/agent; cp usr/bin/true opt/agent/agent; printf '\267\000' | dd of=opt/agent/agent bs=1 seek=18 conv=notrunc"),
    Plant("interpreter-missing", "/usr/bin/ip", r"sed -i 's#/lib64/ld-linux-x86-64.so.2#/lib64/ld-linux-x86-64.so.9#' usr/bin/ip"),
    Plant("modules-of-another-kernel", "{modules}/updates/dkms/other.ko",
          r"mkdir -p .{modules}/updates/dkms; printf '\177ELF\0vermagic=6.1.0-9-amd64 SMP \0' > .{modules}/updates/dkms/other.ko"),
    Plant("package-file-changed", "/usr/lib/systemd/system/getty@.service", "echo '# x' >> usr/lib/systemd/system/getty@.service"),
    # units
    Plant("unit-missing", f"{UNITS}/watch.path", "unit watch.path '[Path]\\nPathExists=/run/x\\n'"),
    Plant("unit-missing", f"{UNITS}/ssh.service.d/wants.conf", f"mkdir -p .{UNITS}/ssh.service.d; printf '[Unit]\\nWants=vault.service\\n' > .{UNITS}/ssh.service.d/wants.conf"),
    Plant("unit-malformed", f"{UNITS}/section.service", "unit section.service '[Service]\\nExecStart=/usr/bin/true\\n[Instal]\\nWantedBy=multi-user.target\\n'"),
    Plant("unit-malformed", f"{UNITS}/kind.service", "unit kind.service '[Service]\\nType=forked\\nExecStart=/usr/bin/true\\n'"),
    Plant("unit-malformed", f"{UNITS}/elsewhere.mount", "unit elsewhere.mount '[Mount]\\nWhat=tmpfs\\nType=tmpfs\\nWhere=/srv/data\\n'"),
    Plant("unit-refused", f"{UNITS}/unknown.service", "unit unknown.service '[Service]\\nExecStart=/usr/bin/true\\nFrobnicate=yes\\n'"),
    Plant("unit-refused", f"{UNITS}/value.service", "unit value.service '[Service]\\nExecStart=/usr/bin/true\\nTimeoutStartSec=soon\\n'"),
    Plant("timer-wrong", f"{UNITS}/hour.timer", "unit hour.timer '[Timer]\\nUnit=ssh.service\\nOnCalendar=*-*-* 25:00:00\\n'"),
    Plant("generator-cannot-run", "/etc/systemd/system-generators/tool", "printf '#!/usr/bin/perl6\\n' > etc/systemd/system-generators/tool; chmod 755 etc/systemd/system-generators/tool"),
    Plant("drop-in-for-nothing", f"{UNITS}/agent@.service.d/x.conf", f"mkdir .{UNITS}/agent@.service.d; printf '[Unit]\\n' > .{UNITS}/agent@.service.d/x.conf"),
    Plant("restarts-forever", "/etc/systemd/system.conf.d/site.conf", "mkdir -p etc/systemd/system.conf.d; printf '[Manager]\\nDefaultStartLimitIntervalSec=0\\n' > etc/systemd/system.conf.d/site.conf"),
    Plant("tmpfiles-conflict", "/etc/tmpfiles.d/site.conf", "printf 'd run/site 0755 root root -\\n' > etc/tmpfiles.d/site.conf"),
    Plant("sysusers-conflict", "/etc/sysusers.d/b.conf", "mkdir -p etc/sysusers.d; echo 'u one 777' > etc/sysusers.d/a.conf; echo 'u two 777' > etc/sysusers.d/b.conf"),
    # left over from the builder
    Plant("builder-identity", "/etc/netplan/50-cloud-init.yaml", "mkdir -p etc/netplan; printf 'network:\\n  ethernets:\\n    eth0:\\n      match: {}\\n      macaddress: 52:54:00:12:34:56\\n' > etc/netplan/50-cloud-init.yaml"),
    Plant("builder-hostname", "/etc/hosts", "echo '127.0.0.1 localhost runner-7' >> etc/hosts"),
    Plant("builder-dns", "/etc/resolv.conf", "rm etc/resolv.conf; echo nameserver 10.0.0.1 > etc/resolv.conf.site; ln -s resolv.conf.site etc/resolv.conf"),
    Plant("builder-mounts", "/etc/fstab", "echo '/swapfile none swap sw 0 0' >> etc/fstab"),
    Plant("builder-proxy", "/etc/systemd/system.conf.d/proxy.conf", "mkdir -p etc/systemd/system.conf.d; printf '[Manager]\\nDefaultEnvironment=http_proxy=http://10.0.0.1:3128\\n' > etc/systemd/system.conf.d/proxy.conf"),
    Plant("builder-credentials", "/root/.netrc", "echo 'machine x login y password z' > root/.netrc"),
    Plant("builder-credentials", "/root/.pip/pip.conf", "mkdir -p root/.pip; printf '[global]\\nindex-url = https://ci:s3cret@pypi.example/simple\\n' > root/.pip/pip.conf"),
    Plant("builder-credentials", "/etc/credstore/site", "mkdir -p etc/credstore; echo hunter2 > etc/credstore/site"),
    Plant("authorized-keys", "/etc/cloud/cloud.cfg.d/99.cfg", "mkdir -p etc/cloud/cloud.cfg.d; printf 'ssh_authorized_keys:\\n  - ssh-ed25519 AAAAC3Nz ann\\n' > etc/cloud/cloud.cfg.d/99.cfg"),
    Plant("builder-traces", "/build.log", "echo x > build.log"),
    # secrets and doors
    Plant("secret-in-file", "/root/anaconda-ks.cfg", "printf 'rootpw --iscrypted $6$abcdefgh$%s\\n' $(printf 'x%.0s' $(seq 86)) > root/anaconda-ks.cfg"),
    Plant("secret-in-file", "/usr/share/site/odd", "mkdir -p usr/share/site; echo xoxb-1234567890-abcdefghij > usr/share/site/odd"),
    Plant("console-open", f"{UNITS}/serial-getty@ttyS0.service.d/login.conf",
          f"mkdir -p .{UNITS}/serial-getty@ttyS0.service.d .{UNITS}/getty.target.wants; ln -sf /usr/lib/systemd/system/serial-getty@.service .{UNITS}/getty.target.wants/serial-getty@ttyS0.service;"
          f"printf '[Service]\\nExecStart=\\nExecStart=-/sbin/agetty --autologin root %%I\\n' > .{UNITS}/serial-getty@ttyS0.service.d/login.conf"),
    Plant("setid-unexpected", "/usr/local/bin/ping", "cp usr/bin/true usr/local/bin/ping; setcap cap_net_raw+ep usr/local/bin/ping"),
    Plant("setid-lost", "/usr/sbin/unix_chkpwd", "chmod g-s usr/sbin/unix_chkpwd"),
    Plant("package-rights-changed", "/usr/bin/dash", f"mkdir -p usr/lib/sysimage/rpm; zcat {RPM_DATABASE} > usr/lib/sysimage/rpm/rpmdb.sqlite; chmod 775 usr/bin/dash"),
    Plant("owner-wrong", "/usr/local", "chown 1000 usr/local"),
    Plant("password-open", "/etc/pam.d/sshd", "sed -i '1i auth sufficient pam_permit.so' etc/pam.d/sshd"),
    Plant("config-refused", "/etc/ssh/sshd_config.d/site.conf", "echo 'PermitRoot no' > etc/ssh/sshd_config.d/site.conf"),
    Plant("socket-on-network", f"{UNITS}/local.socket.d/all.conf",
          f"mkdir -p .{UNITS}/local.socket.d .{UNITS}/sockets.target.wants; printf '[Socket]\\nListenStream=/run/local\\n' > .{UNITS}/local.socket;"
          f"printf '[Service]\\nExecStart=/usr/bin/true\\n' > .{UNITS}/local.service; ln -s ../local.socket .{UNITS}/sockets.target.wants/local.socket;"
          f"printf '[Socket]\\nListenStream=[::]:2323\\n' > .{UNITS}/local.socket.d/all.conf"),
    # what was declared
    Plant("persistent-path-wrong", "/data/x", "echo x > data/x"),
    Plant("number-drifts", "/etc/group", "sed -i 's/^sshd:x:[0-9]*/sshd:x:776/; s/^systemd-network:x:[0-9]*/systemd-network:x:775/' etc/group"),
    Plant("journal-lost", "/etc/systemd/journald.conf.d/zz-site.conf", "mkdir -p etc/systemd/journald.conf.d; printf '[Journal]\\nStorage=none\\n' > etc/systemd/journald.conf.d/zz-site.conf"),
)  # fmt: skip
FEW = (
    Plant("init-missing", "/sbin/init", "rm usr/sbin/init usr/lib/systemd/systemd"),
    Plant("modules-of-another-kernel", "/usr/lib/modules", "mv .{modules} usr/lib/modules/5.10.0-1-amd64"),
    Plant("usr-not-merged", "/sbin", "rm sbin; mkdir sbin; cp usr/sbin/agetty sbin/"),
    Plant("builder-dns", "/etc/resolv.conf", "ln -sf ../run/nothing/resolv.conf etc/resolv.conf"),
    Plant("persistent-path-wrong", "/var/local", "rm -f var/local; ln -s /srv/local var/local"),
)


class Trees:
    """Makes artifacts out of the unpacked root file system of ``good``."""

    def __init__(self, good: Artifacts, folder: Path) -> None:
        self.good, self.folder = good, folder
        self._log = folder / "log"
        self.modules = f"/usr/lib/modules/{good.manifest.kernel_version}"

    def plant(
        self, name: str, *plants: Plant, options: tuple[str, ...] = ("-comp", "zstd", "-Xcompression-level", "1")
    ) -> Artifacts:
        folder = self.folder / name
        folder.mkdir()
        tree, rootfs = folder / "tree", folder / "rootfs.squashfs"
        script = "\n".join(
            [f"set -e; cd {tree}", UNIT, *(plant.shell.replace("{modules}", self.modules) for plant in plants)]
        )
        unpack = f"unsquashfs -no-progress -quiet -dest {tree} {self.good.rootfs}"
        pack = f"mksquashfs {tree} {rootfs} -noappend -no-progress -quiet -xattrs {' '.join(options)}"
        chroot.run(["bash", "-c", f"{unpack} && ( {script}\n ) && {pack} && rm -rf {tree}"], log=self._log)
        return self.around(folder, rootfs=rootfs)

    def around(self, folder: Path, **changed: Path) -> Artifacts:
        """Artifacts in ``folder``, with those files of the good ones that are not ``changed``."""
        for file in (self.good.kernel, self.good.initrd, self.good.rootfs):
            if not (folder / file.name).exists():
                (folder / file.name).symlink_to(file)
        names = {"rootfs": self.good.manifest.rootfs, "kernel": KERNEL, "initrd": INITRD}
        files = dict(self.good.manifest.files) | {names[key]: describe(path) for key, path in changed.items()}
        return Artifacts(folder=folder, manifest=replace(self.good.manifest, files=files))


@pytest.fixture(scope="session")
def trees(artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Trees:
    return Trees(artifacts, tmp_path_factory.mktemp("lint"))


@pytest.fixture(scope="session")
def found_in(trees: Trees, base: ImageDefinition) -> Callable[[Artifacts], dict[tuple[str, str], LintFinding]]:
    def found_in(artifacts: Artifacts) -> dict[tuple[str, str], LintFinding]:
        report = lint(artifacts, base, previous=trees.good)
        return {(finding.id, finding.path): finding for finding in report.findings if not finding.allowed}

    return found_in


Found = Callable[[Artifacts], dict[tuple[str, str], LintFinding]]


def test_the_good_image_has_no_finding_without_a_reason(artifacts: Artifacts, found_in: Found) -> None:
    assert found_in(artifacts) == {}


def test_the_reasons_of_the_good_image_are_needed(artifacts: Artifacts, base: ImageDefinition) -> None:
    found = {finding.id for finding in lint(artifacts, replace(base, lint_allow=())).findings}

    assert found == {"clock-not-set", "journal-lost"}


@pytest.mark.parametrize(("name", "plants"), [("many", MANY), ("more", MORE), ("few", FEW)])
def test_each_planted_fault_is_found_and_named(
    name: str, plants: tuple[Plant, ...], trees: Trees, found_in: Found
) -> None:
    found = found_in(trees.plant(name, *plants))

    planted = [
        (
            plant.id,
            plant.path.replace("{modules}", trees.modules).replace("{version}", trees.good.manifest.kernel_version),
        )
        for plant in plants
    ]
    assert [one for one in planted if one not in found] == []
    assert all(finding.cause and finding.next for finding in found.values())


def test_kernel_and_initrd_of_other_builds_are_found(trees: Trees, found_in: Found) -> None:
    folder = trees.folder / "others"
    folder.mkdir()
    kernel, initrd = folder / KERNEL, folder / INITRD
    kernel.write_bytes(trees.good.kernel.read_bytes() + b"\0")
    shutil.copyfile(trees.good.initrd, initrd)
    with initrd.open("ab") as file:
        file.write(gzip.compress(archive({
            "etc/machine-id": b"0123456789abcdef0123456789abcdef\n",
            "usr/lib/initrd-release": b'IMAGE_ID="base"\nIMAGE_VERSION="1999.01"\n',
            "root/.ssh/authorized_keys": b"ssh-ed25519 AAAA\n",
        })))  # fmt: skip

    found = found_in(trees.around(folder, kernel=kernel, initrd=initrd))

    assert set(found) == {
        ("kernel-differs", "kernel:vmlinuz"),
        ("builder-identity", "initrd:/etc/machine-id"),
        ("initrd-of-another-build", "initrd:/usr/lib/initrd-release"),
        ("authorized-keys", "initrd:/root/.ssh/authorized_keys"),
    }


def test_an_initrd_that_cannot_mount_the_root_is_found(trees: Trees, found_in: Found) -> None:
    folder = trees.folder / "driverless"
    folder.mkdir()
    initrd, modules = folder / INITRD, trees.modules.lstrip("/")
    initrd.write_bytes(gzip.compress(archive({"init": b"#!/bin/sh\n", f"{modules}/modules.dep.bin": b"x"})))

    assert ("driver-missing", f"initrd:{trees.modules}") in found_in(trees.around(folder, initrd=initrd))


def test_the_gate_fails_before_a_machine_is_powered_on(trees: Trees, judge: Judge) -> None:
    planted = trees.plant("gate", Plant("folder-wrong", "/tmp", "chmod 0755 tmp"))
    serialization.write(planted.folder / MANIFEST, planted.manifest)

    status, verdict = judge("base", "-n0", f"--artifacts={planted.folder}", "tests/image/test_lint.py")

    assert (status, verdict.outcome, verdict.coverage.failed, verdict.boots) == (1, Outcome.FAILED, ("lint",), ())
    assert [(finding.id, finding.where, len(finding.tests)) for finding in verdict.findings] == [
        ("folder-wrong", "the image's files", 1)
    ]


def test_an_allowance_that_is_not_needed_is_found(artifacts: Artifacts, base: ImageDefinition) -> None:
    allow = (*base.lint_allow, Allowance(path="/etc/nothing", reason="none"))

    report = lint(artifacts, replace(base, lint_allow=allow), today=date(2027, 1, 1))

    assert [finding.id for finding in report.findings if not finding.allowed] == ["allowance-unused"]


def test_the_images_own_programs_are_asked_in_a_sandbox(artifacts: Artifacts, base: ImageDefinition) -> None:
    """None of them is named as one that could not be asked, on this host."""
    report = lint(artifacts, base)

    assert not [sentence for sentence in report.unchecked if " of the image" in sentence or "own programs" in sentence]


def test_another_builders_folder_has_the_same_findings(
    trees: Trees, artifacts: Artifacts, base: ImageDefinition, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trees.folder / "theirs"
    folder.mkdir()
    for file, name in ((artifacts.kernel, "bzImage"), (artifacts.initrd, "initramfs"), (artifacts.rootfs, "root.sqfs")):
        (folder / name).symlink_to(file)

    status = main(["lint", str(folder), "--image", base.name, "--images-dir", str(base.folder.parent)])

    printed = capsys.readouterr().out
    assert status == 0, printed
    assert not [line for line in printed.splitlines() if line.startswith(("fails", "warns"))]


def test_hostile_trees_are_one_sentence(trees: Trees, capsys: pytest.CaptureFixture[str]) -> None:
    """Links out of the tree, devices, names with newlines and of other programs: none is read or run."""
    outside = trees.folder / "outside"
    outside.write_text("AKIAIOSFODNN7EXAMPLE", "utf-8")
    before = hashlib.sha256(outside.read_bytes()).hexdigest()
    hostile = trees.plant(
        "hostile",
        Plant("", "", f"ln -sf {outside} etc/motd; ln -sf ../../../../..{outside} etc/issue; mknod etc/disk b 8 0"),
        Plant("", "", "mkdir -p \"etc/systemd/system/a\nb.service.d\"; printf x > \"etc/x\n/etc/machine-id\" 2>/dev/null || printf x > \"etc/x\ny\""),
        Plant("", "", "ln -s loop etc/loop; ln -s / etc/systemd/system/root.service"),
    )  # fmt: skip

    report = lint(hostile)

    assert not [finding for finding in report.findings if finding.id == "secret-in-file"]
    assert hashlib.sha256(outside.read_bytes()).hexdigest() == before
    (hostile.folder / "manifest.json").write_bytes((trees.good.folder / "manifest.json").read_bytes())
    broken = trees.folder / "broken"
    shutil.copytree(trees.good.folder, broken)
    os.chmod(broken / "rootfs.squashfs", 0o644)
    with (broken / "rootfs.squashfs").open("r+b") as file:
        file.seek(4)
        file.write((50_000_000).to_bytes(4, "little"))
    assert main(["lint", str(broken)]) == 4
    printed = capsys.readouterr()
    assert "50,000,000 files" in printed.err
    assert len(printed.err.splitlines()) == 1


def archive(files: dict[str, bytes]) -> bytes:
    """An archive of cpio, in the format newc."""
    out = bytearray()
    for number, (name, content) in enumerate([*files.items(), ("TRAILER!!!", b"")], 1):
        fields = (number, 0o100644, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        out += b"070701" + "".join(f"{field:08x}" for field in fields).encode() + name.encode() + b"\0"
        out += b"\0" * (-len(out) % 4) + content
        out += b"\0" * (-len(out) % 4)
    return bytes(out)
