"""Network faults in the web server's answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from harness.lab.http import HttpAnswer, Request
from harness.model.network_faults import SLOW_BYTES_PER_S, HttpFault, HttpFaultKind, NetworkFault, ServedFile

_MOVED = "moved"
"""The query of a redirected request."""


def apply_faults(
    faults: Iterable[NetworkFault], noise: Path, request: Request, answer: HttpAnswer, answered_before: int
) -> HttpAnswer:
    """``answer`` after the faults that concern the requested file: pure but for files of zeros in ``noise``.

    ``answered_before`` is how many answers this client got for this path before.
    """
    name = request.path.rpartition("/")[2]
    faults = list(faults)
    if any(isinstance(fault, HttpFault) and fault.kind.is_refusal for fault in faults):
        headers = {**answer.headers, "Connection": "close"}  # the next file needs another connection
        answer = replace(answer, headers=headers)
    for fault in faults:
        if isinstance(fault, HttpFault) and fault.file.is_called(name) and answer.status == 200:
            answer = _apply(fault, noise / name, request, answer, answered_before)
    return answer


def _apply(fault: HttpFault, noise: Path, request: Request, answer: HttpAnswer, answered_before: int) -> HttpAnswer:
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
            status = 301 if fault.file is ServedFile.LOADER else 302
            moved = HttpAnswer(status=status, headers={"Location": f"{request.path}?{_MOVED}"})
            return answer if request.query == _MOVED else moved
        case HttpFaultKind.NO_LENGTH:
            return replace(answer, has_length=False)
        case HttpFaultKind.SLOW:
            return replace(answer, bytes_per_s=SLOW_BYTES_PER_S)
        case HttpFaultKind.REFUSED | HttpFaultKind.REFUSED_ONCE:
            return answer  # refused before it comes here: see packet_faults


def _noise(file: Path, size_bytes: int) -> Path:
    """A file of zeros that takes no space."""
    with file.open("ab") as noise:
        noise.truncate(size_bytes)
    return file
