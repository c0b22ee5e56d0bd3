# ruff: noqa: E501  # a plant is one line
"""Each check sees the fault that is planted in a small good image, and nothing in the good one."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.lint import check
from harness.lint.image import Previous
from harness.model.definition import load_definition
from harness.packages.database import Rights

from ...small_image import GOOD, MODULES, Content, definition, elf, image, record, tree

UNITS = "etc/systemd/system"
WANTS = f"{UNITS}/multi-user.target.wants"
KEY = f"-----BEGIN PRIVATE KEY-----\n{base64.b64encode(bytes(range(90))).decode()}\n-----END PRIVATE KEY-----\n"


def enabled(name: str, text: str) -> dict[str, Content]:
    return {f"{UNITS}/{name}": text, f"{WANTS}/{name}": ("->", f"../{name}")}


def found(**changes: Any) -> set[tuple[str, str]]:
    return {(finding.id, finding.path) for finding in check(image(**changes))}


def test_the_good_image_has_no_finding() -> None:
    assert check(image()) == []


ROOT_FILES: list[tuple[str, str, Mapping[str, Content]]] = [
    ("folder-wrong", "/proc", {"proc/": None}),
    ("init-missing", "/sbin/init", {"usr/sbin/init": None}),
    ("os-release-wrong", "/etc/os-release", {"etc/os-release": None}),
    ("builder-mounts", f"/{UNITS}/srv.mount", {f"{UNITS}/srv.mount": "[Mount]\nWhat=/dev/sdb1\nWhere=/srv\n"}),
    ("restarts-forever", f"/{UNITS}/ssh.service.d/x.conf", {f"{UNITS}/ssh.service.d/x.conf": "[Unit]\nStartLimitBurst=0\n[Service]\nRestart=on-failure\n"}),
    ("usr-not-merged", "/sbin", {"sbin": None, "sbin/": "", "sbin/x": "x"}),
    ("usr-not-merged", "/bin", {"bin": ("->", "usr/sbin")}),
    ("init-missing", "/sbin/init", {"usr/sbin/init": None, "usr/lib/systemd/systemd": None}),
    ("modules-of-another-kernel", "/usr/lib/modules", {path: None for path in GOOD if path.startswith(MODULES)} | {"usr/lib/modules/5.0/x.ko": "x"}),
    ("modules-not-indexed", f"/{MODULES}/modules.alias.bin", {f"{MODULES}/modules.alias.bin": ""}),
    ("modules-not-indexed", f"/{MODULES}/modules.dep", {f"{MODULES}/kernel/fs/b.ko": "x"}),
    ("os-release-wrong", "/usr/lib/os-release", {"usr/lib/os-release": "ID=test\nIMAGE_ID=base\nIMAGE_VERSION=0\n"}),
    ("os-release-wrong", "/usr/lib/os-release", {"usr/lib/os-release": ""}),
    ("compression-unreadable", "/boot/config-6.12.1-test", {"boot/config-6.12.1-test": "CONFIG_SQUASHFS=y\nCONFIG_SQUASHFS_XZ=y\n"}),
    ("compression-unreadable", f"/{MODULES}/kernel/fs/squashfs/squashfs.ko", {f"{MODULES}/kernel/fs/squashfs/squashfs.ko": elf(("xz_dec_run",))}),
    ("compression-unreadable", "/usr/lib/libkmod.so.2", {f"{MODULES}/kernel/fs/a.ko": None, f"{MODULES}/kernel/fs/a.ko.zst": "x"}),
    ("library-missing", "/usr/bin/tool", {"usr/bin/tool": elf(("libnone.so.1",))}),
    ("interpreter-missing", "/usr/bin/tool", {"usr/bin/tool": elf(interpreter="/lib/ld-musl.so")}),
    ("interpreter-missing", "/usr/bin/tool", {"usr/bin/tool": "#!/usr/bin/perl\n"}),
    ("interpreter-missing", "/usr/bin/tool", {"usr/bin/tool": "#!/usr/bin/env -S ruby -w\n"}),
    ("interpreter-missing", "/usr/bin/tool", {"usr/bin/tool": "#!/bin/sh\r\n"}),
    ("library-missing", "/usr/bin/bash", {"usr/lib/libc.so.6": elf(machine=183)}),
    ("setid-unexpected", "/usr/local/bin/su", {"usr/local/bin/su": "x"}),
    ("clock-not-utc", "/etc/localtime", {"etc/localtime": "TZif2\nx\nCET-1CEST\n"}),
    ("builder-proxy", "/etc/apt/apt.conf", {"etc/apt/apt.conf": 'Acquire {\n http {\n  Proxy "http://10.0.0.1:3142";\n };\n};\n'}),
    ("sudo-open", "/etc/sudoers.d/x", {"etc/sudoers.d/x": "Defaults:x !authenticate\n"}),
    ("tmpfiles-conflict", "/etc/tmpfiles.d/00.conf", {"etc/tmpfiles.d/00.conf": "d /run/good 0700 root root\n"}),
    ("secret-in-file", "/usr/bin/true", {"usr/bin/true": KEY}),
    ("wrong-architecture", "/usr/bin/tool", {"usr/bin/tool": elf(machine=183)}),
    ("program-damaged", "/usr/bin/tool", {"usr/bin/tool": elf(("libc.so.6",))[:-20]}),
    ("package-file-changed", "/usr/bin/true", {"usr/bin/true": elf(("libc.so.6", "libc.so.6"))}),
    ("package-file-changed", "/usr/bin/true", {"usr/bin/true": None}),
    ("unit-program-missing", f"/{UNITS}/a.service", enabled("a.service", "[Service]\nExecStart=-/opt/none\nExecStart=/opt/a --x\n")),
    ("unit-program-missing", f"/{UNITS}/a.service", {**enabled("a.service", "[Service]\nExecStart=/opt/a\n"), "opt/a": "x"}),
    ("unit-program-missing", f"/{UNITS}/a.service", enabled("a.service", "[Service]\nExecStart=/bin/true\nEnvironmentFile=/etc/default/a\n")),
    ("unit-missing", f"/{UNITS}/a.socket", enabled("a.socket", "[Socket]\nListenStream=/run/a\n")),
    ("unit-user-missing", f"/{UNITS}/a.service", enabled("a.service", "[Service]\nExecStart=/bin/true\nGroup=none\n")),
    ("unit-missing", f"/{WANTS}/gone.service", {f"{WANTS}/gone.service": ("->", "/usr/lib/systemd/system/gone.service")}),
    ("unit-missing", f"/{UNITS}/a.service", enabled("a.service", "[Unit]\nRequires=b.service\n[Service]\nExecStart=/bin/true\n")),
    ("unit-missing", f"/{UNITS}/a.service", enabled("a.service", "[Unit]\nWants=b.service\n[Service]\nExecStart=/bin/true\n")),
    ("unit-missing", f"/{UNITS}/grafical.target.wants/ssh.service", {f"{UNITS}/grafical.target.wants/ssh.service": ("->", "/usr/lib/systemd/system/ssh.service")}),
    ("unit-missing", "/etc/systemd/system/default.target", {"usr/lib/systemd/system/default.target": None}),
    ("unit-masked", f"/{UNITS}/ssh.service", {f"{UNITS}/ssh.service": ("->", "/dev/null")}),
    ("unit-masked", f"/{UNITS}/a.service", {**enabled("a.service", "[Unit]\nRequires=b.service\n[Service]\nExecStart=/bin/true\n"), f"{UNITS}/b.service": ""}),
    ("unit-not-enabled", "/usr/lib/systemd/system/ssh.service", {f"{WANTS}/ssh.service": None}),
    ("ordering-cycle", f"/{UNITS}/b.service", {**enabled("a.service", "[Unit]\nAfter=b.service\n[Service]\nExecStart=/bin/true\n"), **enabled("b.service", "[Unit]\nBefore=sysinit.target\n[Service]\nExecStart=/bin/true\n")}),
    ("drop-in-for-nothing", f"/{UNITS}/b.service.d/x.conf", {f"{UNITS}/b.service.d/x.conf": "[Unit]\n"}),
    ("drop-in-for-nothing", f"/{UNITS}/ssh.service.d/x.cfg", {f"{UNITS}/ssh.service.d/x.cfg": "[Unit]\n"}),
    ("unit-malformed", f"/{UNITS}/a.service", enabled("a.service", "[Service]\nExecStart=/bin/true\nRestrat=always\n")),
    ("unit-malformed", f"/{UNITS}/a.service", enabled("a.service", "ExecStart=/bin/true\n")),
    ("unit-malformed", f"/{UNITS}/a.service", enabled("a.service", "[Service]\nExecStart=/bin/true\nExecStart=/bin/true\n")),
    ("restarts-forever", f"/{UNITS}/ssh.service.d/x.conf", {f"{UNITS}/ssh.service.d/x.conf": "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always\n"}),
    ("timer-wrong", f"/{UNITS}/a.timer", enabled("a.timer", "[Timer]\nOnCalendar=daily\n")),
    ("timer-wrong", f"/{UNITS}/a.timer", enabled("a.timer", "[Timer]\nUnit=ssh.service\n")),
    ("timer-wrong", f"/{UNITS}/a.timer", enabled("a.timer", "[Timer]\nUnit=ssh.service\nOnCalendar=every day\n")),
    ("generator-cannot-run", "/etc/systemd/system-generators/a", {"etc/systemd/system-generators/a": "x"}),
    ("generator-cannot-run", "/etc/systemd/system-generators/a", {"etc/systemd/system-generators/a": "#!/usr/bin/perl\n"}),
    ("tmpfiles-conflict", "/etc/tmpfiles.d/b.conf", {"etc/tmpfiles.d/a.conf": "d /run/x 0755 root root\n", "etc/tmpfiles.d/b.conf": "d /run/x 0700 root root\n"}),
    ("tmpfiles-conflict", "/etc/tmpfiles.d/a.conf", {"etc/tmpfiles.d/a.conf": "d /run/x 0755 nobody root\n"}),
    ("sysusers-conflict", "/etc/sysusers.d/a.conf", {"etc/sysusers.d/a.conf": "u new 100\n"}),
    ("sysusers-conflict", "/etc/sysusers.d/a.conf", {"etc/sysusers.d/a.conf": "g sshd 200\n"}),
    ("sysctl-without-module", "/etc/sysctl.d/a.conf", {"etc/sysctl.d/a.conf": "net.mpls.x = 1\n"}),
    ("sysctl-without-module", "/etc/sysctl.d/a.conf", {"etc/sysctl.d/a.conf": "net.bridge.bridge-nf-call-iptables = 1\n"}),
    ("module-to-load-missing", "/etc/modules-load.d/a.conf", {"etc/modules-load.d/a.conf": "# x\nnone\n"}),
    ("builder-identity", "/etc/machine-id", {"etc/machine-id": "0123456789abcdef0123456789abcdef\n"}),
    ("builder-identity", "/var/lib/dbus/machine-id", {"var/lib/dbus/machine-id": "0123\n"}),
    ("builder-identity", "/etc/ssh/ssh_host_rsa_key", {"etc/ssh/ssh_host_rsa_key": "x"}),
    ("builder-identity", "/etc/iscsi/initiatorname.iscsi", {"etc/iscsi/initiatorname.iscsi": "InitiatorName=iqn.1\n"}),
    ("builder-identity", "/usr/share/persist/etc/hostid", {"usr/share/persist/etc/hostid": "x"}),
    ("builder-hostname", "/etc/hostname", {"etc/hostname": "build-1\n"}),
    ("builder-hostname", "/etc/hosts", {"etc/hosts": "127.0.0.1 localhost\n127.0.1.1 build-1\n"}),
    ("builder-dns", "/etc/resolv.conf", {"etc/resolv.conf": "nameserver 10.0.0.1\n"}),
    ("builder-dns", "/etc/resolv.conf", {"etc/resolv.conf": ("->", "/run/none/resolv.conf")}),
    ("builder-dns", "/etc/resolv.conf", {"usr/lib/systemd/systemd-resolved": None}),
    ("builder-dns", "/etc/resolv.conf", {"etc/resolv.conf": None}),
    ("builder-mounts", "/etc/fstab", {"etc/fstab": "# x\nUUID=1 /boot ext4 defaults 0 2\n"}),
    ("builder-mounts", "/etc/crypttab", {"etc/crypttab": "swap /dev/sda2\n"}),
    ("builder-proxy", "/etc/environment", {"etc/environment": 'http_proxy="http://10.0.0.1:3128"\n'}),
    ("builder-proxy", "/etc/profile.d/x.sh", {"etc/profile.d/x.sh": "export HTTPS_PROXY=http://10.0.0.1:3128\n"}),
    ("builder-proxy", f"/{UNITS}/ssh.service.d/x.conf", {f"{UNITS}/ssh.service.d/x.conf": '[Service]\nEnvironment="https_proxy=http://x:1"\n'}),
    ("builder-credentials", "/root/.netrc", {"root/.netrc": "machine x login y password z\n"}),
    ("builder-credentials", "/etc/apt/sources.list", {"etc/apt/sources.list": "deb https://ci:hunter2@mirror/ x main\n"}),
    ("builder-credentials", "/etc/openstack/clouds.yaml", {"etc/openstack/clouds.yaml": "clouds:\n  x:\n    auth:\n      password: hunter2\n"}),
    ("builder-credentials", "/etc/nova/nova.conf", {"etc/nova/nova.conf": "transport_url = rabbit://openstack:hunter2@controller.lab.test:5672/\n"}),
    ("authorized-keys", "/root/.ssh/authorized_keys", {"root/.ssh/authorized_keys": "ssh-rsa AAAA\n"}),
    ("builder-traces", "/root/.bash_history", {"root/.bash_history": "ls\n"}),
    ("builder-traces", "/tmp/x", {"tmp/x": ""}),
    ("builder-traces", "/usr/sbin/policy-rc.d", {"usr/sbin/policy-rc.d": "exit 101\n"}),
    ("caches-left", "/var/lib/apt/lists/x_Packages", {"var/lib/apt/lists/x_Packages": "x"}),
    ("clock-not-utc", "/etc/adjtime", {"etc/adjtime": "0 0 0\n0\nLOCAL\n"}),
    ("clock-not-utc", "/etc/localtime", {"etc/localtime": ("->", "/usr/share/zoneinfo/Mars")}),
    ("logs-left", "/var/log/x.log", {"var/log/x.log": "x"}),
    ("core-file", "/usr/bin/dump", {"usr/bin/dump": elf(kind=4)}),
    ("core-file", "/var/lib/systemd/coredump/core.x.zst", {"var/lib/systemd/coredump/core.x.zst": "x"}),
    ("secret-in-file", "/etc/x/anything", {"etc/x/anything": KEY}),
    ("secret-in-file", "/opt/x", {"opt/x": "glpat-" + "a1" * 10}),
    ("password-open", "/etc/shadow", {"etc/shadow": "root::1::::::\n"}),
    ("password-open", "/etc/shadow", {"etc/shadow": "root:$y$j9T$x:1::::::\n"}),
    ("password-open", "/etc/passwd", {"etc/passwd": "root:x:0:0::/:/bin/sh\nsshd:x:100:100::/:/\nadmin:x:0:0::/:/bin/sh\n"}),
    ("sshd-open", "/etc/ssh/sshd_config.d/a.conf", {"etc/ssh/sshd_config.d/a.conf": "PermitRootLogin yes\n"}),
    ("sshd-open", "/etc/ssh/sshd_config", {"etc/ssh/sshd_config": "Match User x\nPermitEmptyPasswords yes\n"}),
    ("sshd-open", "/etc/ssh/sshd_config", {"etc/ssh/sshd_config": "PasswordAuthentication maybe\n"}),
    ("owner-wrong", "/usr/lib/libc.so.6", {}),
    ("socket-on-network", f"/{UNITS}/a.socket", {f"{UNITS}/a.socket": "[Socket]\nListenStream=[::]:80\n", f"{UNITS}/sockets.target.wants/a.socket": ("->", "../a.socket"), f"{UNITS}/a.service": "[Service]\nExecStart=/bin/true\n"}),
    ("sudo-open", "/etc/sudoers.d/x", {"etc/sudoers.d/x": "x ALL=(ALL) NOPASSWD: ALL\n"}),
    ("polkit-open", "/etc/polkit-1/rules.d/x.rules", {"etc/polkit-1/rules.d/x.rules": "return polkit.Result.YES;\n"}),
    ("boot-path-program-missing", "/usr/sbin/kexec", {"usr/bin/kexec": None}),
    ("clock-not-set", "/etc/systemd/timesyncd.conf", {"usr/lib/systemd/system/sysinit.target.wants/systemd-timesyncd.service": None}),
    ("persistent-path-wrong", "/etc/site", {"etc/site": None, "etc/site/": "", "etc/site/x": "x"}),
    ("persistent-path-wrong", "/etc/site", {"etc/site": ("->", "/data/site")}),
    ("persistent-path-wrong", "/etc/site", {"usr/share/persist/etc/site/": None}),
    ("persistent-path-wrong", "/data/x", {"data/x": "x"}),
    ("firmware-missing", "/usr/lib/firmware", {f"{MODULES}/kernel/drivers/scsi/megaraid/x.ko": "x"}),
    ("number-drifts", "/etc/group", {"etc/group": "root:x:0:\nsshd:x:100:\nother:x:100:\n"}),
    # more of each class
    ("folder-wrong", "/var/run", {"var/run/": ""}),
    ("folder-wrong", "/proc", {"proc/": None, "proc": "x"}),
    ("library-missing", "/usr/bin/true", {"usr/lib/libc.so.6": ""}),
    ("wrong-architecture", "/opt/agent/agent", {"opt/agent/agent": elf(machine=183)}),
    ("modules-of-another-kernel", f"/{MODULES}/updates/dkms/zfs.ko", {f"{MODULES}/updates/dkms/zfs.ko": b"\x7fELF\0vermagic=6.1.0-9-test SMP \0", f"{MODULES}/modules.dep": "kernel/fs/a.ko:\nkernel/net/br_netfilter.ko:\nupdates/dkms/zfs.ko:\n"}),
    ("driver-missing", f"initrd:/{MODULES}", {f"{MODULES}/modules.builtin": "", f"{MODULES}/kernel/fs/squashfs/squashfs.ko": "x"}),
    ("unit-missing", f"/{UNITS}/a.path", enabled("a.path", "[Path]\nPathExists=/run/a\n")),
    ("unit-malformed", f"/{UNITS}/a.path", enabled("a.path", "[Path]\nUnit=ssh.service\n")),
    ("unit-missing", f"/{UNITS}/srv.automount", enabled("srv.automount", "[Automount]\nWhere=/srv\n")),
    ("unit-malformed", f"/{UNITS}/other.mount", {f"{UNITS}/other.mount": "[Mount]\nWhat=tmpfs\nWhere=/srv/data\n"}),
    ("unit-missing", f"/{UNITS}/default.target", {f"{UNITS}/default.target": ("->", "/dev/null")}),
    ("unit-not-enabled", f"/{UNITS}/default.target", {f"{UNITS}/default.target": ("->", "/usr/lib/systemd/system/rescue.target"), "usr/lib/systemd/system/rescue.target": "[Unit]\n"}),
    ("unit-missing", f"/{UNITS}/ssh.service.d/x.conf", {f"{UNITS}/ssh.service.d/x.conf": "[Unit]\nWants=vault.service\n"}),
    ("unit-malformed", f"/{UNITS}/a.service", enabled("a.service", "[Servce]\nX=1\n[Service]\nExecStart=/bin/true\n")),
    ("unit-malformed", f"/{UNITS}/a.service", enabled("a.service", "[Unit]\nRestart=always\n[Service]\nExecStart=/bin/true\n")),
    ("unit-malformed", f"/{UNITS}/a.service", enabled("a.service", "[Service]\nType=oneshoot\nExecStart=/bin/true\n")),
    ("unit-malformed", f"/{UNITS}/a.service", enabled("a.service", "[Service]\nRestart=sometimes\nExecStart=/bin/true\n")),
    ("unit-malformed", f"/{UNITS}/a.service", enabled("a.service", "[Service]\nExecStart=bin/true\n")),
    ("drop-in-for-nothing", f"/{UNITS}/none@.service.d/x.conf", {f"{UNITS}/none@.service.d/x.conf": "[Unit]\n"}),
    ("drop-in-for-nothing", f"/{UNITS}/none-.service.d/x.conf", {f"{UNITS}/none-.service.d/x.conf": "[Unit]\n"}),
    ("restarts-forever", "/etc/systemd/system.conf.d/a.conf", {"etc/systemd/system.conf.d/a.conf": "[Manager]\nDefaultStartLimitIntervalSec=0\n"}),
    ("timer-wrong", f"/{UNITS}/a.timer", enabled("a.timer", "[Timer]\nUnit=ssh.service\nOnCalendar=*-*-* 25:00:00\n")),
    ("timer-wrong", f"/{UNITS}/a.timer", enabled("a.timer", "[Timer]\nUnit=ssh.service\nOnCalendar=*-13-01\n")),
    ("console-open", f"/{UNITS}/serial-getty@ttyS0.service.d/x.conf", {"usr/lib/systemd/system/serial-getty@.service": "[Service]\nExecStart=-/usr/bin/true\n", f"{WANTS}/serial-getty@ttyS0.service": ("->", "/usr/lib/systemd/system/serial-getty@.service"), f"{UNITS}/serial-getty@ttyS0.service.d/x.conf": "[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin root -o '-p' %I\n"}),
    ("console-open", "/usr/lib/systemd/system/debug-shell.service", {"usr/lib/systemd/system/debug-shell.service": "[Service]\nExecStart=/usr/bin/sh\n", f"{WANTS}/debug-shell.service": ("->", "/usr/lib/systemd/system/debug-shell.service")}),
    ("console-open", f"/{UNITS}/emergency.service.d/x.conf", {"usr/lib/systemd/system/emergency.service": "[Service]\nExecStart=/usr/bin/sh\n", f"{UNITS}/emergency.service.d/x.conf": "[Service]\nEnvironment=SYSTEMD_SULOGIN_FORCE=1\n"}),
    ("tmpfiles-conflict", "/etc/tmpfiles.d/a.conf", {"etc/tmpfiles.d/a.conf": "k /run/x\n"}),
    ("tmpfiles-conflict", "/etc/tmpfiles.d/a.conf", {"etc/tmpfiles.d/a.conf": "d run/x 0755 root root\n"}),
    ("sysusers-conflict", "/etc/sysusers.d/a.conf", {"etc/sysusers.d/a.conf": "user new -\n"}),
    ("sysusers-conflict", "/etc/sysusers.d/b.conf", {"etc/sysusers.d/a.conf": "u one 300\n", "etc/sysusers.d/b.conf": "u two 300\n"}),
    ("builder-identity", "/etc/netplan/50-cloud-init.yaml", {"etc/netplan/50-cloud-init.yaml": "network:\n  ethernets:\n    eth0:\n      match:\n        macaddress: 52:54:00:12:34:56\n"}),
    ("builder-identity", "/etc/salt/pki/minion.pem", {"etc/salt/pki/minion.pem": "x"}),
    ("builder-identity", "/etc/libvirt/libvirtd.conf", {"etc/libvirt/libvirtd.conf": 'host_uuid = "1"\n'}),
    ("builder-hostname", "/etc/hosts", {"etc/hosts": "127.0.0.1 localhost runner-7\n"}),
    ("builder-dns", "/etc/resolv.conf", {"etc/resolv.conf": ("->", "resolv.conf.real"), "etc/resolv.conf.real": "nameserver 10.0.0.1\n"}),
    ("builder-dns", "/etc/resolv.conf", {"etc/resolv.conf": None, "etc/resolv.conf/": ""}),
    ("builder-mounts", "/etc/fstab", {"etc/fstab": "/swapfile none swap sw 0 0\n"}),
    ("builder-mounts", "/etc/fstab", {"etc/fstab": "nas:/home /home nfs defaults 0 0\n"}),
    ("builder-mounts", "/boot/grub/grub.cfg", {"boot/grub/grub.cfg": "search --no-floppy --fs-uuid --set=root 1-2\n"}),
    ("builder-mounts", "/etc/initramfs-tools/conf.d/resume", {"etc/initramfs-tools/conf.d/resume": "RESUME=UUID=1-2\n"}),
    ("builder-proxy", "/etc/docker/daemon.json", {"etc/docker/daemon.json": '{"proxies": {"http-proxy": "http://10.0.0.1:3128"}}\n'}),
    ("builder-proxy", "/etc/apt/apt.conf", {"etc/apt/apt.conf": 'Acquire { http::Proxy "http://10.0.0.1:3142"; };\n'}),
    ("builder-proxy", "/etc/rhsm/rhsm.conf", {"etc/rhsm/rhsm.conf": "[server]\nproxy_hostname = squid.example\n"}),
    ("builder-credentials", "/root/.config/pypoetry/auth.toml", {"root/.config/pypoetry/auth.toml": 'password = "x"\n'}),
    ("builder-credentials", "/root/.pip/pip.conf", {"root/.pip/pip.conf": "[global]\nindex-url = https://ci:s3cret@pypi.example/simple\n"}),
    ("builder-credentials", "/etc/yum.repos.d/x.repo", {"etc/yum.repos.d/x.repo": "[x]\nbaseurl=https://x\nusername=ci\npassword=hunter2\n"}),
    ("builder-credentials", "/etc/openstack/clouds.yaml", {"etc/openstack/clouds.yaml": "clouds:\n  x:\n    auth:\n      password: hunter2\n"}),
    ("builder-credentials", "/etc/nova/nova.conf", {"etc/nova/nova.conf": "[placement]\npassword = hunter2\n"}),
    ("builder-credentials", "/etc/credstore/x", {"etc/credstore/x": "hunter2"}),
    ("authorized-keys", "/etc/cloud/cloud.cfg.d/99.cfg", {"etc/cloud/cloud.cfg.d/99.cfg": "ssh_authorized_keys:\n  - ssh-ed25519 AAAAC3Nz ann\n"}),
    ("builder-traces", "/run/build.pid", {"run/build.pid": "1\n"}),
    ("builder-traces", "/build.log", {"build.log": "x"}),
    ("builder-traces", "/var/mail/root", {"var/mail/root": "x"}),
    ("clock-not-utc", "/etc/conf.d/hwclock", {"etc/conf.d/hwclock": 'clock="local"\n'}),
    ("secret-in-file", "/opt/x", {"opt/x": "aws_secret_access_key = " + "aB3/" * 10 + "\n"}),
    ("secret-in-file", "/opt/x", {"opt/x": "xoxb-1234567890-abcdefghij\n"}),
    ("secret-in-file", "/opt/x", {"opt/x": "https://hooks.slack.com/services/T01/B02/abcdefghijklmnopqrst\n"}),
    ("secret-in-file", "/etc/wireguard/wg0.conf", {"etc/wireguard/wg0.conf": "[Interface]\nPrivateKey = " + "a" * 43 + "=\n"}),
    ("secret-in-file", "/etc/ceph/ceph.client.nova.keyring", {"etc/ceph/ceph.client.nova.keyring": "[client.nova]\n\tkey = AQ" + "a" * 38 + "==\n"}),
    ("secret-in-file", "/root/anaconda-ks.cfg", {"root/anaconda-ks.cfg": "rootpw --iscrypted $6$abcdefgh$" + "x" * 86 + "\n"}),
    ("secret-in-file", "/opt/x.json", {"opt/x.json": '{"key": "' + KEY.replace("\n", "\\n") + '"}'}),
    ("secret-in-file", "/opt/deep/odd.bin", {"opt/deep/odd.bin": "x\n  " + KEY.replace("\n", "\n  ")}),
    ("password-open", "/etc/shadow-", {"etc/shadow-": "root:$6$x$y:1::::::\n"}),
    ("password-open", "/etc/pam.d/sshd", {"etc/pam.d/sshd": "auth sufficient pam_permit.so\n"}),
    ("sshd-open", "/etc/ssh/sshd_config.d/a.conf", {"etc/ssh/sshd_config.d/a.conf": "PermitUserEnvironment yes\n"}),
    ("sshd-open", "/etc/ssh/sshd_config.d/00.conf", {"etc/ssh/sshd_config": "Include /etc/ssh/sshd_config.d/*.conf\nPermitRootLogin no\n", "etc/ssh/sshd_config.d/00.conf": "PermitRootLogin yes\n", "etc/ssh/sshd_config.d/99.conf": "PermitRootLogin no\n"}),
    ("sshd-open", "/usr/etc/ssh/sshd_config", {"etc/ssh/sshd_config": None, "usr/etc/ssh/sshd_config": "PermitRootLogin yes\n"}),
    ("sudo-open", "/opt/sudo/x", {"etc/sudoers": "@includedir /opt/sudo\n", "opt/sudo/x": "x ALL=(ALL) ALL\n"}),
    ("sudo-open", "/etc/doas.conf", {"etc/doas.conf": "permit nopass :wheel\n"}),
    ("polkit-open", "/etc/polkit-1/rules.d/x.rules", {"etc/polkit-1/rules.d/x.rules": 'polkit.addRule(function() { return "yes"; });\n'}),
    ("owner-wrong", "/opt/x", {"opt/x": "x"}),
    ("owner-wrong", "/usr/local", {"usr/local/": ""}),
    ("socket-on-network", f"/{UNITS}/a.socket.d/x.conf", {f"{UNITS}/a.socket": "[Socket]\nListenStream=/run/a\n", f"{UNITS}/sockets.target.wants/a.socket": ("->", "../a.socket"), f"{UNITS}/a.service": "[Service]\nExecStart=/bin/true\n", f"{UNITS}/a.socket.d/x.conf": "[Socket]\nListenStream=0.0.0.0:2323\n"}),
    ("journal-lost", "/etc/systemd/journald.conf.d/x.conf", {"usr/lib/systemd/systemd-journald": elf(("libc.so.6",)), "etc/systemd/journald.conf.d/x.conf": "[Journal]\nStorage=none\n"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "path", "changed"), ROOT_FILES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_fault_in_the_files_is_found(name: str, path: str, changed: Mapping[str, Content]) -> None:
    uids = {path.lstrip("/"): 100} if name == "owner-wrong" else {}
    modes = {"etc/sudoers.d/x": 0o440, "usr/local/bin/su": 0o4755, "opt/sudo/x": 0o666}

    assert (name, path) in found(changed=changed, uids=uids, modes=modes)


@pytest.mark.parametrize(
    ("name", "path", "mode"),
    [
        ("folder-wrong", "", 0o700),
        ("folder-wrong", "tmp", 0o755),
        ("setid-unexpected", "usr/bin/find", 0o4755),
        ("setid-lost", "usr/bin/su", 0o755),
        ("world-writable", "usr/bin/true", 0o777),
        ("world-writable", "usr/lib/systemd/system/ssh.service", 0o666),
        ("password-open", "etc/shadow", 0o644),
        ("builder-dns", "etc/resolv.conf", 0o600),
        ("init-missing", "usr/lib/systemd/systemd", 0o644),
    ],
)
def test_a_wrong_mode_is_found(name: str, path: str, mode: int) -> None:
    shown = "/sbin/init" if name == "init-missing" else f"/{path}"
    changed = {"etc/resolv.conf": ""} if name == "builder-dns" else {}

    assert (name, shown) in found(changed=changed, modes={path: mode})


@pytest.mark.parametrize(
    ("name", "path", "changed"),
    [
        ("init-missing", "initrd:/init", {"init": None, "usr/lib/systemd/systemd": None}),
        ("initrd-of-another-build", f"initrd:/{MODULES}/kernel/fs/a.ko", {f"{MODULES}/kernel/fs/a.ko": "y"}),
        ("initrd-of-another-build", "initrd:/usr/lib/initrd-release", {"usr/lib/initrd-release": "IMAGE_VERSION=0\n"}),
        ("modules-not-indexed", f"initrd:/{MODULES}/modules.dep", {f"{MODULES}/kernel/fs/b.ko": "x"}),
        ("builder-identity", "initrd:/etc/machine-id", {"etc/machine-id": "0123456789abcdef\n"}),
        ("builder-dns", "initrd:/etc/resolv.conf", {"etc/resolv.conf": "nameserver 10.0.0.1\n"}),
        ("library-missing", "initrd:/usr/bin/x", {"usr/bin/x": elf(("libnone.so",), interpreter="")}),
        ("secret-in-file", "initrd:/etc/x", {"etc/x": KEY}),
    ],
)  # fmt: skip
def test_a_fault_in_the_initrd_is_found(name: str, path: str, changed: Mapping[str, Content]) -> None:
    assert (name, path) in found(initrd=changed)


def test_a_kernel_of_another_version_or_build_is_found() -> None:
    assert ("kernel-differs", "kernel:vmlinuz") in found(kernel_banner="5.10.0 (x) #1")
    sums = {"boot/vmlinuz-6.12.1-test": "1" * 32}
    assert ("kernel-differs", "kernel:vmlinuz") in found(sums=sums, kernel_digest="2" * 32)
    assert not found(sums=sums, kernel_digest="1" * 32)


def test_capabilities_that_are_unknown_or_lost_are_found() -> None:
    files = {"usr/bin/arping": elf(("libc.so.6",))}
    value = image(files)
    owned = {**value.owners, "usr/bin/arping": "iputils"}
    given = {"usr/bin/true": ("cap_sys_admin",)}
    lost = replace(value, root=replace(value.root, capabilities=given), owners=owned)

    seen = {(finding.id, finding.path) for finding in check(lost)}

    assert seen == {("setid-unexpected", "/usr/bin/true"), ("setid-lost", "/usr/bin/arping")}


def test_a_copy_of_a_known_program_may_not_have_its_rights() -> None:
    """The name alone does not make it the package's."""
    changed = {"usr/local/bin/ping": elf(("libc.so.6",)), "usr/lib/x/su": elf(("libc.so.6",))}
    value = image(changed, modes={"usr/lib/x/su": 0o4755})
    given = replace(value, root=replace(value.root, capabilities={"usr/local/bin/ping": ("cap_net_raw",)}))

    seen = {(finding.id, finding.path) for finding in check(given)}

    assert seen == {("setid-unexpected", "/usr/local/bin/ping"), ("setid-unexpected", "/usr/lib/x/su")}


def test_debians_programs_need_the_bits_that_debian_gives_them() -> None:
    changed = {
        "usr/bin/chsh": elf(("libc.so.6",)),
        "usr/lib/os-release": "ID=x\nID_LIKE=debian\nIMAGE_ID=base\nIMAGE_VERSION=1\n",
    }

    assert ("setid-lost", "/usr/bin/chsh") in found(changed=changed)
    assert ("setid-lost", "/usr/bin/chsh") not in found(changed=changed, modes={"usr/bin/chsh": 0o4755})


def test_what_a_package_gave_a_file_is_compared() -> None:
    value = image(modes={"usr/bin/curl": 0o700, "usr/bin/find": 0o775}, uids={"usr/bin/sshd": 100})
    as_it_is = Rights(mode=0o755, user="root", group="root")
    rights = dict.fromkeys(("usr/bin/curl", "usr/bin/find", "usr/bin/sshd", "usr/bin/true"), as_it_is)
    rights["usr/bin/mount"] = replace(as_it_is, mode=0o4755)
    rights["usr/bin/true"] = replace(as_it_is, capabilities=frozenset({"cap_net_raw"}))
    rights["usr/bin/su"] = replace(as_it_is, mode=0o4755)

    seen = {
        (one.id, one.path, one.does_fail) for one in check(replace(value, rights=rights)) if one.id != "owner-wrong"
    }

    assert seen == {
        ("package-rights-changed", "/usr/bin/curl", True),
        ("package-rights-changed", "/usr/bin/find", False),
        ("package-rights-changed", "/usr/bin/sshd", True),
        ("setid-lost", "/usr/bin/true", True),
    }


def test_a_service_is_known_by_its_name_in_other_distributions() -> None:
    assert found(definition=replace(definition(), services=("sshd.service",))) == set()
    assert ("unit-missing", f"/{UNITS}/chronyd.service") in found(
        definition=replace(definition(), services=("chronyd.service",))
    )


def test_a_kernel_argument_that_opens_a_shell_is_found() -> None:
    manifest = replace(image().manifest, kernel_arguments=("quiet", "systemd.debug_shell"))

    assert found(manifest=manifest) == {("console-open", "artifacts:manifest.json")}


def test_a_journal_that_no_boot_leaves_behind_is_found() -> None:
    assert ("journal-lost", "/etc/systemd/journald.conf") not in found()
    changed = {"etc/systemd/journald.conf": "[Journal]\nStorage=volatile\n", "usr/lib/systemd/systemd-journald": elf()}
    assert ("journal-lost", "/etc/systemd/journald.conf") in found(changed=changed)


def test_numbers_that_drift_and_growth_are_found_beside_the_previous_version() -> None:
    value = image({"opt/large": b"\1" * 2_000_000})
    manifest = replace(value.manifest, files={**value.manifest.files, "rootfs.squashfs": record(100 << 20)})
    before = Previous(
        version="0",
        manifest=replace(manifest, files={**manifest.files, "rootfs.squashfs": record(50 << 20)}),
        files=tree(GOOD, {}, {}).files,
        users="root:x:0:0::/:/\nsshd:x:101:100::/:/\n",
        groups="root:x:0:\nold:x:100:\n",
    )

    seen = {(one.id, one.path): one for one in check(replace(value, manifest=manifest, previous=before))}

    assert seen.keys() == {
        ("number-drifts", "/etc/passwd"),
        ("number-drifts", "/etc/group"),
        ("image-grew", "artifacts:rootfs.squashfs"),
    }
    assert seen["image-grew", "artifacts:rootfs.squashfs"].evidence == ("/opt/large (no package): +1 MiB",)


@pytest.mark.parametrize(
    ("images", "keeps", "severities"),
    [
        (("base", "base"), ("old", "new"), {"warns"}),
        (("base", "base"), ("new",), {"fails"}),
        (("base", "base"), (), {"fails"}),
        (("other", "base"), ("old", "new"), {"warns"}),
    ],
)  # fmt: skip
def test_numbers_that_hosts_keep_are_a_warning(
    images: tuple[str, str], keeps: tuple[str, ...], severities: set[str]
) -> None:
    """The record is on the host's disk only if the version before made it."""
    keeper = {"usr/lib/persist/keep-numbers": "#!/bin/sh\n"}
    value = image(keeper if "new" in keeps else None)
    before = Previous(
        version="0",
        manifest=replace(value.manifest, image=images[0]),
        files=tree({**GOOD, **(keeper if "old" in keeps else {})}, {}, {}).files,
        users="root:x:0:0::/:/\nsshd:x:101:100::/:/\n",
        groups="root:x:0:\nsshd:x:101:\n",
    )

    seen = [one for one in check(replace(value, previous=before)) if one.id == "number-drifts"]

    assert {str(one.severity) for one in seen} == severities
    assert len(seen) == 2


@pytest.mark.parametrize(
    "changed",
    [
        {"etc/machine-id": "uninitialized\n"},
        {"etc/hostname": "localhost\n"},
        {"etc/environment": "# http_proxy=http://x:1\n"},
        {"etc/x.conf": "url = https://user:${PASSWORD}@host/\n"},
        {"etc/fstab": "tmpfs /x tmpfs\n# UUID=1 / ext4\n"},
        {"etc/ssh/sshd_config.d/a.conf": "PermitRootLogin no\n", "etc/ssh/sshd_config.d/b.conf": "PermitRootLogin yes\n"},
        {**enabled("a.timer", "[Timer]\nUnit=ssh.service\nOnCalendar=Mon..Fri *-*-* 06:00:00 UTC\n")},
        {**enabled("a.service", "[Service]\nType=oneshot\nExecStart=/bin/true \\\n  --x\nExecStart=true\n")},
        {f"{UNITS}/ssh.service.d/x.conf": "[Service]\nExecStart=\nExecStart=/usr/bin/true\n"},
        {"etc/modules-load.d/a.conf": "br_netfilter\n", "etc/sysctl.d/a.conf": "net.bridge.bridge-nf-call-iptables=1\n"},
        {"usr/lib/plugin.so": elf(("libnone.so",), interpreter="")},
        {f"{UNITS}/user@1.service.d/x.conf": "[Unit]\n", f"{UNITS}/service.d/x.conf": "[Unit]\n"},
        {f"{UNITS}/a@.service": "[Service]\nExecStart=/bin/true\n", f"{UNITS}/a@1.service.d/x.conf": "[Unit]\n"},
        {f"{UNITS}/s-.service.d/x.conf": "[Unit]\n", f"{UNITS}/s-a.service": "[Service]\nExecStart=/bin/true\n"},
        {f"{UNITS}/srv-a\\x2db.mount": "[Mount]\nWhat=tmpfs\nType=tmpfs\nWhere=/srv/a-b\n"},
        {"etc/hosts": "127.0.0.1 localhost localhost.localdomain # builder\n::1 localhost ip6-localhost ip6-loopback\n"},
        {"etc/apt/apt.conf": 'Acquire::http::Proxy "DIRECT";\n'},
        {"etc/proxies": "proxy:x:13:\n"},
        {"etc/nova/nova.conf": "#password = x\npassword = $pass\n[x]\nlock_path = /x\n"},
        {"etc/pam.d/common-auth": "auth required pam_permit.so\n"},
        {"etc/resolv.conf": ("->", "resolv.conf.real"), "etc/resolv.conf.real": "options edns0\n"},
        {**enabled("a.timer", "[Timer]\nUnit=ssh.service\nOnCalendar=*-*-1..7 0/2:30\n")},
    ],
)  # fmt: skip
def test_what_is_right_is_no_finding(changed: Mapping[str, Content]) -> None:
    assert found(changed=changed) == set()


def test_secrets_themselves_are_not_shown() -> None:
    files = {"opt/x": KEY, "root/.netrc": "machine x password hunter2\n", "etc/shadow": "root:$6$hunter2:1::::::\n"}

    assert "hunter2" not in "".join(str(finding) for finding in check(image(files)))


def test_what_has_no_end_is_read_to_a_bound() -> None:
    """A file that includes itself, a template that wants ever more instances, and lines that no person wrote."""
    hostile = {
        "etc/ssh/sshd_config.d/a.conf": "Include /etc/ssh/sshd_config.d/*\n" * 100,
        "etc/ssh/sshd_config.d/b.conf": "Include /etc/ssh/sshd_config.d/*\nPermitEmptyPasswords yes\n",
        f"{UNITS}/x@.service": "[Unit]\nWants=x@%ia.service x@%ib.service\n[Service]\nExecStart=/bin/true\n",
        f"{WANTS}/x@1.service": ("->", "../x@.service"),
        f"{UNITS}/long.service": "[Service]\nExecStart=/bin/true " + "\\\n" * 200_000,
        "etc/long": "a" * 900_000,
        "etc/key": "-----BEGIN PRIVATE KEY-----\n" + "a: " * 300_000,
        "etc/loop": ("->", "loop"),
        "etc/out": ("->", "../../../../../../etc/shadow"),
    }

    assert ("sshd-open", "/etc/ssh/sshd_config.d/b.conf") in found(changed=hostile)


def test_the_control_plane_for_tests_allows_nothing_so_that_its_passwords_keep_it_from_promotion() -> None:
    definition = load_definition(Path(__file__).parents[3] / "images" / "control-plane")

    assert definition.lint_allow == ()
