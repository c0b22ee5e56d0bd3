"""Network faults in the web server's answers: pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from harness.lab.http import HttpAnswer, Request
from harness.model.network_faults import SLOW_BYTES_PER_S, HttpFault, HttpFaultKind, NetworkFault

_MOVED = "moved"
"""The query by which a request that was redirected is told from the first."""


def altered(
    faults: Iterable[NetworkFault], noise: Path, request: Request, answer: HttpAnswer, answered_before: int
) -> HttpAnswer:
    """``answer`` with the faults in it, where it is for a file that they are about.

    ``noise`` is a folder for files of the right length and the wrong content.
    """
    name = request.path.rpartition("/")[2]
    faults = list(faults)
    if any(isinstance(fault, HttpFault) and fault.kind.is_refusal for fault in faults):
        answer = replace(answer, headers={**answer.headers, "Connection": "close"})  # the next file takes another one
    for fault in faults:
        if isinstance(fault, HttpFault) and fault.file.is_called(name) and answer.status == 200:
            answer = _befallen(fault, noise / name, request, answer, answered_before)
    return answer


def _befallen(fault: HttpFault, noise: Path, request: Request, answer: HttpAnswer, answered_before: int) -> HttpAnswer:
    half = answer.size_bytes // 2
    match fault.kind:
        case HttpFaultKind.MISSING:
            return HttpAnswer(status=404, body=b"network fault\n")
        case HttpFaultKind.BUSY:
            return HttpAnswer(status=503, body=b"network fault\n")
        case HttpFaultKind.BUSY_ONCE:
            return answer if answered_before else HttpAnswer(status=503, body=b"network fault\n")
        case HttpFaultKind.STALLS:
            return replace(answer, stall_after_bytes=half)
        case HttpFaultKind.CUT:
            return replace(answer, cut_after_bytes=half)
        case HttpFaultKind.TRUNCATED:
            return replace(answer, only_bytes=half)
        case HttpFaultKind.FLIPPED:
            return replace(answer, flipped_at=half)
        case HttpFaultKind.NOISE:
            return replace(answer, body=_noise(noise, answer.size_bytes))
        case HttpFaultKind.OTHER_BUILD:
            return replace(answer, body=fault.other or answer.body)
        case HttpFaultKind.REDIRECT:
            return answer if request.query == _MOVED else _redirect(request)
        case HttpFaultKind.SLOW:
            return replace(answer, bytes_per_s=SLOW_BYTES_PER_S)
        case HttpFaultKind.REFUSED | HttpFaultKind.REFUSED_ONCE:
            return answer  # after all; see `packets`


def _redirect(request: Request) -> HttpAnswer:
    return HttpAnswer(status=302, headers={"Location": f"{request.path}?{_MOVED}"})


def _noise(file: Path, size_bytes: int) -> Path:
    """A file of zeros that takes no space."""
    with file.open("ab") as noise:
        noise.truncate(size_bytes)
    return file
