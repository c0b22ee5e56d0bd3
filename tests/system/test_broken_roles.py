"""Images with a fault in their data persistence: each is built, and its verdict must be failed and name the fault.

The good image is `base`, with a location of many files; a fault is what a shell command changes in its tree.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from harness.model.verdict import Outcome

from .conftest import Judge, MakeImage, faults
from .test_planted_images import text_of

SITE = "/etc/site"
PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - name: A location of forty files
      ansible.builtin.shell: |
        mkdir {site} && for n in $(seq 40); do yes $n | head -c 20000 >{site}/$n; done; chown daemon {site}/1

- import_playbook: base.yml

- hosts: all
  gather_facts: false
  tasks:
    - name: What the initrd does, changed
      ansible.builtin.copy: {{ content: {persist}, dest: /root/persist }}
    - name: After all that it defines, before it does anything
      ansible.builtin.shell: |
        grep -q '^# --- main ---' /usr/lib/persist/persist || exit 1
        sed -i '/^# --- main ---/r /root/persist' /usr/lib/persist/persist; rm /root/persist
    - name: The tree, changed
      ansible.builtin.shell: {tree}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """``persist`` are lines that replace functions of the role, ``tree`` is a command that changes the tree.

    The verdict of a run with the arguments ``suite`` must have a finding ``id`` that says ``named``.
    """

    suite: tuple[str, ...]
    id: str
    named: str
    persist: str = ""
    tree: str = "true"


_CUTS = ("--thorough", "--power-cuts=4000", "tests/image/test_power_cuts.py")
_DISKS = ("--thorough", "tests/image/test_disk_faults.py", "-k")
_LINKS = ("tests/image/test_links.py",)
_IDENTITY = ("tests/image/test_identity.py",)
_ANOTHER_BOARD = ("tests/image/test_survival.py", "-k", "another_board")
_NEVER_MOUNTED = """
    mount_data() { mkdir -p $root/data; }
    find_partition() { :; }"""
FAULTS = {
    "no-fsync": Fault(persist="sync() { sleep 1; }", suite=_CUTS, id="power-cut-loses-data", named="a power cut after"),
    "seeding-in-place": Fault(
        persist="""
            seed() { # path
                local file
                [[ -e $root/data$1 ]] && return
                mkdir -p "$root/data$1"
                for file in "$defaults$1"/*; do
                    [[ ! -e $file ]] || { cp -a "$file" "$root/data$1" && sync -f "$root/data$1"; }
                done
            }""",
        suite=_CUTS, id="power-cut-loses-data", named=SITE,
    ),
    "mount-by-name": Fault(
        persist="""
            eval "$(declare -f find_partition | sed '1s/find_partition/make_partition/')"
            find_partition() {
                if compgen -G '/dev/sd?2' >/dev/null; then partition=/dev/sda2; else make_partition; fi
            }""",
        suite=(*_DISKS, "foreign-first"), id="check-failed", named="tolerates names this fault",
    ),
    "missing-order": Fault(
        persist="""
            eval "$(declare -f say | sed '1s/say/tell/')"
            say() { tell "$@"; [[ $1 != ready ]] || umount $root/data; }""",
        tree="systemctl disable persist-guard.service; printf '%s\\n' '[Service]' 'Type=oneshot' 'RemainAfterExit=yes' "
        "'ExecStart=/bin/sh -c \"while systemctl show -P NRestarts ssh.service | grep -qx 0; do sleep 1; done; "
        "mount PARTLABEL=data /data\"' '[Install]' 'WantedBy=multi-user.target' "
        ">/etc/systemd/system/mount-data.service && systemctl enable mount-data.service",
        suite=_LINKS, id="unit-failed", named="ssh.service",
    ),
    "no-check": Fault(
        persist=_NEVER_MOUNTED, tree="systemctl disable persist-guard.service",
        suite=(*_DISKS, "absent"), id="check-failed", named="not on the persistent disk",
    ),
    "wrong-link": Fault(
        tree=f"ln -sfn /data/elsewhere {SITE}", suite=_LINKS, id="persist-failed", named="/data/elsewhere",
    ),
    "location-left-out": Fault(
        tree=f"sed -i 's| {SITE}||' /usr/lib/persist/config && rm {SITE} && cp -a /usr/share/persist{SITE} {SITE}",
        suite=_LINKS, id="check-failed", named=f"{SITE} is on ",
    ),
    "wrong-owner": Fault(
        persist='cp() { command cp -r "${@:2}"; }',
        suite=_LINKS, id="check-failed", named="daemon",
    ),
    "formats-anything": Fault(
        persist="content() { :; }", suite=(*_DISKS, "foreign and not first"), id="check-failed", named="foreign disk",
    ),
    "machine-id-in-ram": Fault(
        persist="set_machine_id() { :; }", suite=_ANOTHER_BOARD, id="check-failed", named="machine-id",
    ),
    "host-keys-baked-in": Fault(
        tree="ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/baked && "
        "echo 'HostKey /etc/ssh/baked' >/etc/ssh/sshd_config.d/persist.conf",
        suite=_IDENTITY, id="check-failed", named="SSH host keys is the same",
    ),
    "database-link-without-target": Fault(
        tree=f"ln -s /var/lib/site/database /usr/share/persist{SITE}/database",
        suite=_LINKS, id="check-failed", named=f"{SITE}/./database",
    ),
}  # fmt: skip


@faults(FAULTS, "wrong-link", "machine-id-in-ram")
def test_a_fault_in_what_keeps_data_fails_the_image_and_is_named(
    judge: Judge, make_image: MakeImage, name: str
) -> None:
    fault = FAULTS[name]
    playbook = PLAYBOOK.format(site=SITE, persist=json.dumps(fault.persist + "\n"), tree=json.dumps(fault.tree))
    images = make_image(name, playbook, ('"/var/local"]', f'"/var/local", "{SITE}"]'))

    status, verdict = judge(name, "-n2", *fault.suite, images=images)

    found = [finding for finding in verdict.findings if finding.id == fault.id]
    assert (status, verdict.outcome) == (1, Outcome.FAILED)
    assert any(fault.named in text_of(finding) for finding in found), verdict.findings
