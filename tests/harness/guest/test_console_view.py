"""What a console shows, by the kernel arguments."""

from __future__ import annotations

import pytest

from harness.guest.console_view import ConsoleView, console_view


@pytest.mark.parametrize(
    ("arguments", "kernel", "systemd"),
    [
        ("", "", ""),
        ("console=ttyS0,115200", "", ""),
        ("console=tty0 console=ttyS0", "", ""),
        ("quiet", "quiet", "quiet"),
        ("quiet systemd.show_status=1", "quiet", ""),
        ("quiet debug", "", "quiet"),
        ("quiet ignore_loglevel", "", "quiet"),
        ("loglevel=0", "loglevel=0", ""),
        ("quiet loglevel=7", "", "quiet"),
        ("loglevel=7 quiet", "quiet", "quiet"),
        ("systemd.show_status=0", "", "systemd.show_status=0"),
        ("rd.systemd.show_status=no", "", "rd.systemd.show_status=no"),
        ("systemd.show_status", "", ""),
        ("splash", "", "splash"),
        ("console=ttyS0 console=tty0", "", "console=tty0"),
        ("console=tty0", "console=tty0", "console=tty0"),
        ("console=null", "console=null", "console=null"),
    ],
)
def test_the_argument_that_hides_messages_is_named(arguments: str, kernel: str, systemd: str) -> None:
    view = console_view(arguments.split())

    assert (view.kernel_hidden_by, view.systemd_hidden_by) == (kernel, systemd)
    assert view.shows_phases is not bool(kernel or systemd)


def test_what_stays_unseen_is_said_with_the_argument() -> None:
    assert list(ConsoleView().unchecked) == []
    kernel, systemd = ConsoleView(kernel_hidden_by="quiet", systemd_hidden_by="console=tty0").unchecked
    assert "(quiet)" in kernel
    assert "(console=tty0)" in systemd
