"""The pytest plugin: ``pytest -n 8 --image nova-kvm`` builds, boots, examines and judges.

Without ``--image`` nothing changes, but that ``host`` refuses to test the local machine in a repository of images;
and nothing is imported, since pytest loads this in every repository of the environment it is installed in.
"""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from harness.model.machine_spec import BootPath

FIXTURES = ("artifacts", "disk", "guest", "lab", "machine", "power_cuts")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("bootproof", "Bootproof: boots proven before promotion")
    group.addoption(
        "--image", action="append", default=[], metavar="NAME", help="Build, boot and judge this image (repeatable)."
    )
    group.addoption("--images-dir", metavar="DIR", help="Where image definitions are (default: images/, upwards).")
    group.addoption(
        "--boot-path",
        action="append",
        default=[],
        choices=[path.value for path in BootPath],
        help="Come up only this way (repeatable; default: all that the definition names).",
    )
    group.addoption(
        "--hardware",
        metavar="NAME|FILE",
        help="Boot machines of this hardware profile: a name, or a file as `bootproof hardware` prints it.",
    )
    group.addoption(
        "--artifacts", metavar="DIR", help="Judge what another builder made: kernel, initrd and root filesystem in DIR."
    )
    group.addoption(
        "--kernel-arguments",
        metavar="TEXT",
        help="For --artifacts without manifest.json (default: the file DIR/cmdline, else the definition's).",
    )
    group.addoption(
        "--previous", metavar="DIR", help="Artifacts to upgrade from (default: upgrade to a second build of the image)."
    )
    group.addoption(
        "--accel", choices=["auto", "kvm", "tcg"], default="auto", help="How QEMU runs the guest (default: auto)."
    )
    group.addoption(
        "--network",
        choices=["auto", "lab", "user"],
        default="auto",
        help="What connects machines: a lab, or QEMU's user network where the host cannot open one (default: auto).",
    )
    group.addoption(
        "--network-fault",
        action="append",
        default=[],
        metavar="NAME",
        help="Inject this network fault into all labs, such as dhcp-late (repeatable; see docs/network-faults.md).",
    )
    group.addoption(
        "--thorough",
        action="store_true",
        help="Prove also what takes long: power cuts, faults of disk and network, hardware, late units, all upgrades.",
    )
    group.addoption(
        "--power-cuts",
        type=int,
        default=20000,
        metavar="N",
        help="With --thorough: judge N states of a disk after power cuts, and boot one in a thousand (default: 20000).",
    )
    group.addoption(
        "--boots",
        type=int,
        default=1,
        metavar="N",
        help="Repeat all but --thorough's tests N times, each on machines of a boot of their own (default: 1).",
    )
    group.addoption(
        "--sign-key", metavar="FILE", help="Sign the attestation with this Ed25519 key (default: $BOOTPROOF_SIGN_KEY)."
    )
    group.addoption("--policy", metavar="FILE", help="What streams demand (default: policy.toml beside the images).")
    group.addoption(
        "--seed", type=int, default=1, metavar="N", help="Choose what is drawn by lot, such as power cuts (default: 1)."
    )
    group.addoption(
        "--with-artifacts", action="store_true", help="Put kernel, initrd and root file system into bundles, too."
    )
    group.addoption(
        "--with-memory", action="store_true", help="Put the memory of guests that fail into bundles, for crash(8)."
    )
    group.addoption(
        "--keep",
        choices=["failed"],
        help="Leave a machine that fails running until `bootproof stop`; `bootproof attach` gets into it.",
    )
    group.addoption(
        "--keep-minutes",
        type=int,
        default=60,
        metavar="N",
        help="With --keep: end it after N minutes all the same (default: 60).",
    )
    group.addoption(
        "--run-dir", metavar="DIR", help="Where runs keep logs and verdict (default: runs/); written --run-dir=DIR."
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "check(name): the required check that this test belongs to")
    config.addinivalue_line("markers", "cause(text): the suspected cause, for the finding if this test fails")
    config.addinivalue_line("markers", "thorough: the test takes long, and runs only with --thorough")
    config.addinivalue_line("markers", "boots(count): how many boots this test costs; the longest start first")
    config.addinivalue_line("markers", "state(name): the state in which the test wants its machine (default: booted)")
    if config.option.image:
        _begin(config)


def _begin(config: pytest.Config) -> None:
    from harness.core import process
    from harness.core.errors import UsageError
    from harness.plugin import controller, hooks, suite, worker
    from harness.plugin.state import KEY, read_state

    if config.option.hosts is not None:
        raise pytest.UsageError("--image and --hosts exclude each other: is an image tested, or a host?")
    try:
        state = read_state(config)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[KEY] = state
    if state.is_controller:
        process.unwind_when_told_to_end()
    else:
        worker.leave_with(state.controller)
    config.args[:], state.suite_ids = suite.choose(config)
    if state.is_controller and not config.option.collectonly:
        controller.open_runs(config, state)
    config.pluginmanager.register(hooks, "bootproof-hooks")
    for name in FIXTURES:
        config.pluginmanager.register(importlib.import_module(f"harness.fixtures.{name}"), f"bootproof-{name}")


def pytest_fixture_setup(fixturedef: Any, request: pytest.FixtureRequest) -> None:
    """testinfra's own ``host`` tests the local machine when nobody says what else to test."""
    if fixturedef.argname == "_testinfra_host" and _would_test_the_local_machine(request):
        raise pytest.UsageError("host: no --image and no --hosts given, and the local machine is not what you mean")


def _would_test_the_local_machine(request: pytest.FixtureRequest) -> bool:
    """True for testinfra's default host in a repository that has image definitions."""
    from harness.core.errors import UsageError
    from harness.model.definition import find_images

    if request.config.option.hosts is not None or hasattr(request.module, "testinfra_hosts"):
        return False
    try:
        find_images(request.config.rootpath)
    except UsageError:
        return False
    return True
