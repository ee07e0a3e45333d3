"""Ogg/Opus files that are the same bytes every time.

libsndfile gives each Ogg stream a random serial number; here it becomes a number of our own
choice, and the pages' checksums are made right again (RFC 3533, section 6).
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

COMPRESSION = 0.9  # libsndfile's 0 to 1; for Opus it sets the bit rate, see `write`
_HEADER = 27  # bytes before the segment table


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = ((value << 1) ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
        table.append(value)
    return table


_TABLE = _crc_table()


def _crc(page: bytes) -> int:
    value = 0
    for byte in page:
        value = ((value << 8) & 0xFFFFFFFF) ^ _TABLE[(value >> 24) ^ byte]
    return value


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
    """Write mono audio (at `rate` Hz) as Ogg/Opus, about 25 kbit/s; samples after decoding."""
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
