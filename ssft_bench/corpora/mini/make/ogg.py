"""Ogg/Opus files that are the same bytes every time.

libsndfile gives each Ogg stream a random serial number; here it becomes a number of our own
choice, and the pages' checksums are made right again (RFC 3533, section 6).
"""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

COMPRESSION = 0.92  # libsndfile's 0 to 1; for Opus it sets the bit rate, here about 27 kbit/s
_HEADER = 27  # bytes before the segment table


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _crc(page: bytes) -> int:
    """Ogg's checksum: zlib's polynomial with the bits in the other order, from and to zero."""
    value = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{value:032b}"[::-1], 2)


def set_serial(data: bytes, serial: int) -> bytes:
    """The same Ogg file with another stream serial number on each page."""
    out, at = bytearray(data), 0
    while at < len(out):
        if out[at : at + 4] != b"OggS":
            raise ValueError(f"no Ogg page at byte {at}")
        segments = out[at + 26]
        end = at + _HEADER + segments + sum(out[at + _HEADER : at + _HEADER + segments])
        out[at + 14 : at + 18] = serial.to_bytes(4, "little")
        out[at + 22 : at + 26] = bytes(4)  # the checksum counts as zero
        out[at + 22 : at + 26] = _crc(bytes(out[at:end])).to_bytes(4, "little")
        at = end
    return bytes(out)


def write(path: Path, audio: NDArray[np.float32], rate: int, serial: int) -> int:
    """Write mono audio (at `rate` Hz) as Ogg/Opus, about 27 kbit/s; samples after decoding."""
    buffer = io.BytesIO()
    soundfile.write(
        buffer, audio, rate, format="OGG", subtype="OPUS", compression_level=COMPRESSION
    )
    data = set_serial(buffer.getvalue(), serial)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    decoded, back = soundfile.read(io.BytesIO(data), dtype="float32")
    if back != rate or decoded.ndim != 1:
        raise RuntimeError(f"{path} reads back as {decoded.shape} at {back} Hz")
    return len(decoded)
