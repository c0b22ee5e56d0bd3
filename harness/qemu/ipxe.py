"""The iPXE scripts as text: those that a lab serves, and the one that is published for a stream."""

from __future__ import annotations

from collections.abc import Sequence

from harness.model.machine_spec import GATEWAY

TRIES, RETRY_S = 3, 3
"""How often a lab's script tries to fetch a file, and the seconds between two tries."""


def base_url(digest: str) -> str:
    """URL of the folder in which a lab serves the artifacts of that digest."""
    return f"http://{GATEWAY}/{digest}"


def script_path(mac: str) -> str:
    """URL path at which a lab serves the script of the network card with that MAC."""
    return f"/boot/{mac.replace(':', '-')}.ipxe"


NIC_SCRIPT = f"""\
#!ipxe
chain http://{GATEWAY}/boot/${{netX/mac:hexhyp}}.ipxe || echo bootproof: iPXE failed to run a script for this card
exit 1
"""
"""Served at `BOOT_URL`: chains to the network card's own script, as machines of one lab may boot different builds."""


def boot_script(base_url: str, arguments: Sequence[str], *, has_shell: bool = False) -> str:
    """The script of one network card, run after DHCP. With ``has_shell`` it opens iPXE's shell first.

    Each file is tried `TRIES` times. Every step that fails is named on the console; then the firmware continues,
    finds nothing else to boot, resets, and QEMU ends. ``initrd=`` is for kernels started by a UEFI stub and harmless
    elsewhere.
    """
    line = " ".join(arguments)
    shell = "echo bootproof: exit goes on with the boot\nshell\n" if has_shell else ""
    return f"""\
#!ipxe
{shell}echo bootproof: ${{netX/ip}} boots from {base_url}
{_tried("kernel", f"kernel {base_url}/vmlinuz initrd=initrd.img {line}")}
{_tried("initrd", f"initrd {base_url}/initrd.img")}
boot || echo bootproof: iPXE failed to start the kernel
exit 1
:failed_kernel
echo bootproof: iPXE failed to fetch the kernel from {base_url}/vmlinuz
exit 1
:failed_initrd
echo bootproof: iPXE failed to fetch the initrd from {base_url}/initrd.img
exit 1
"""


def _tried(name: str, command: str) -> str:
    return f"""\
set tries:int32 0
:try_{name}
{command} && goto got_{name} ||
inc tries
iseq ${{tries}} {TRIES} && goto failed_{name} ||
sleep {RETRY_S}
goto try_{name}
:got_{name}"""


def published_script(title: str, folder: str, arguments: Sequence[str], build: str) -> str:
    """The script of a stream, for hosts in a rack: it retries for ever.

    The artifacts' ``folder`` is a URL that begins with ``${images}``. A script cannot ask for its own URL (iPXE of
    2019 has no ``cwuri``), so the script that chains to it sets ``images`` to the tree's URL. Without it, the tree is
    expected at the root of DHCP's next server. ``title`` is the stream's, ``build`` describes its build.
    """
    return f"""\
#!ipxe
# {build}
isset ${{images}} || set images http://${{next-server}}
:retry
imgfree
kernel {folder}/vmlinuz initrd=initrd.img {" ".join(arguments)} || goto failed
initrd --name initrd.img {folder}/initrd.img || goto failed
boot || goto failed
:failed
echo {title}: cannot be fetched or started; trying again in 10 seconds
sleep 10
goto retry
"""
