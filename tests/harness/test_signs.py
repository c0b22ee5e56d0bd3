"""Signs speak on lines that mean trouble, in the words of several kernels, and on no others."""

from __future__ import annotations

import pytest

from harness.signs import begins_phase, read_line

TROUBLE = {
    "[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)": "kernel-panic",
    "[    9.1] WARNING: CPU: 0 PID: 1 at fs/inode.c:330 drop_nlink+0x2f/0x40": "kernel-warning",  # until 6.18
    "[    9.1] WARNING: fs/inode.c:330 at drop_nlink+0x2f/0x40, CPU#0: systemd/1": "kernel-warning",  # since 6.19
    "[    5.0] BUG: kernel NULL pointer dereference, address: 0000000000000008": "kernel-oops",
    "[    5.0] Oops: general protection fault, probably for non-canonical address": "kernel-oops",
    "[    2.3] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI": "emulator-fault",
    "[   97.8] watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [systemd:1]": "kernel-lockup",
    "[  242.6] INFO: task mount:411 blocked for more than 120 seconds.": "kernel-lockup",
    "[    0.9] Initramfs unpacking failed: invalid magic at start of compressed archive": "initrd-corrupt",
    "[    0.9] Initramfs unpacking failed: write error": "out-of-memory",
    "[   31.0] Out of memory: Killed process 711 (nova-compute)": "out-of-memory",
    "[   12.4] SQUASHFS error: Unable to read page, block 2a1, size 1f": "rootfs-corrupt",
    "[   12.4] loop0: rw=524288, sector=9 attempt to access beyond end of device": "rootfs-corrupt",
    "[   40.2] EXT4-fs error (device sda2): ext4_lookup:1855: inode #12": "disk-error",
    "persist: FAILED: /var/lib/nova is a folder in the image, not a link": "persist-failed",
    "[FAILED] Failed to start nova-api.service - OpenStack API.": "unit-failed",
    "[DEPEND] Dependency failed for data.mount - /data.": "unit-dependency-failed",
    "[    3.1] systemd[1]: sysinit.target: Found ordering cycle on a.service/start": "ordering-cycle",
    "You are in emergency mode. After logging in, type \"journalctl -xb\"": "emergency-mode",
    "dracut-initqueue[512]: Warning: dracut-initqueue: timeout, still waiting for following": "initrd-timeout",
    "Warning: failed to download live image: error 22": "rootfs-download-failed",
    "tftp://10.77.0.1/undionly.kpxe.................. Connection timed out (http://ip": "ipxe-download-failed",
    "4/vmlinuz... No such file or directory (http://ipxe.org/2d0c613b)": "ipxe-download-failed",
    "bootproof: iPXE failed to fetch the kernel from http://10.77.0.1/x/vmlinuz": "ipxe-script-failed",
    "No bootable device.": "no-boot-device",
    "error: file `/8592356f1c25/vmlinuz' not found.": "grub-failed",  # 2.06
    "error: ../../grub-core/fs/fshelp.c:257:file `/8592356f1c25/vmlinuz' not found.": "grub-failed",  # 2.12
    "error: no such device: bootproof-boot.": "grub-failed",
    "Entering rescue mode...": "grub-failed",
}  # fmt: skip

HARMLESS = (
    "[    0.1] x86/fpu: Supporting XSAVE feature 0x001: 'x87 floating point registers'",
    "[    1.1] Run /init as init process",
    "[  OK  ] Started ssh.service - OpenBSD Secure Shell server.",
    "[    2.0] evm: overlay not supported",
    "[   12.2] platform regulatory.0: Direct firmware load for regulatory.db failed with error -2",
    "/lib/dracut/hooks/cmdline/29-parse-livenet.sh: line 36: get_url_handler: command not found",
    "[    0.2] Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on",
    "http://10.77.0.1/abc/vmlinuz... ok",
    "error: no suitable video mode found.",
    "Welcome to GRUB!",
    "[    4.4] systemd[1]: emergency.service - Emergency Shell was skipped",
)


@pytest.mark.parametrize("line", TROUBLE)
def test_trouble_is_named(line: str) -> None:
    assert [sign.id for sign in read_line(line)] == [TROUBLE[line]]


@pytest.mark.parametrize("line", HARMLESS)
def test_what_a_healthy_boot_prints_is_no_sign(line: str) -> None:
    assert list(read_line(line)) == []


def test_phases_begin_where_firmware_kernel_and_systemd_say_so() -> None:
    lines = [
        "iPXE 1.0.0+git",
        "Welcome to GRUB!",
        "[    0.0] Linux version 6.12.1",
        "Run /init as init process",
        "Switching root.",
    ]

    assert [begins_phase(line) for line in lines] == ["ipxe", "grub", "kernel", "initrd", "userspace"]
