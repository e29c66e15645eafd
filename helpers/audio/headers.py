"""What three kinds of headers say that FFmpeg does not hand on: how long a file was meant to be.

Each function reads a few bytes and leaves the file where it was.
"""

import os
import struct
from collections.abc import Callable
from functools import wraps
from typing import BinaryIO


def _in_place(look: Callable) -> Callable:
    @wraps(look)
    def looked(file: BinaryIO):
        position = file.tell()
        try:
            return look(file)
        finally:
            file.seek(position)

    return looked


@_in_place
def wav_sizes(file: BinaryIO) -> tuple[int, int] | None:
    """Bytes of sound that a WAV's header declares, and bytes that follow it; ``None`` if it declares no size at all.

    0 bytes declared are a recorder that never came back to its header; all bits set (or nearly) are a pipe.
    Chunks as in Microsoft and IBM, "Multimedia Programming Interface and Data Specifications 1.0" (1991).
    """
    file.seek(0)
    if file.read(4) != b"RIFF":  # RF64 and others keep their sizes elsewhere
        return None
    file.seek(12)
    while len(chunk := file.read(8)) == 8:
        size = struct.unpack("<I", chunk[4:])[0]
        if chunk[:4] == b"data":
            begin = file.tell()
            return None if size >= 0x7FFF0000 else (size, file.seek(0, os.SEEK_END) - begin)
        file.seek(size + size % 2, os.SEEK_CUR)
    return None


@_in_place
def xing_frames(file: BinaryIO) -> int | None:
    """Frames of an MP3 as its first frame counts them (the "Xing" or "Info" header of encoders), or ``None``."""
    file.seek(0)
    start = file.read(10)
    if start[:3] == b"ID3":  # a tag before the sound; its size comes in four times seven bits
        file.seek(10 + sum(byte << shift for byte, shift in zip(start[6:10], (21, 14, 7, 0), strict=True)))
    else:
        file.seek(0)
    head = file.read(2048)
    for mark in (b"Xing", b"Info"):
        place = head.find(mark)
        if 0 < place <= len(head) - 12:
            flags, frames = struct.unpack(">II", head[place + 4 : place + 12])
            return frames if flags & 1 and frames else None
    return None


_KBITS = {1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
          2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)}
"""Bit rates of MPEG-1 and MPEG-2 layer III by their index (ISO/IEC 11172-3 and 13818-3, section 2.4.2.3)."""


def is_cut_mp3_frame(frame: bytes) -> bool:
    """Whether an MP3's frame is shorter than its own header says, as the last one of a file that was cut is."""
    if len(frame) < 4 or frame[0] != 0xFF or frame[1] & 0xE6 != 0xE2:  # not the beginning of a frame of layer III
        return False
    version = {3: 1, 2: 2, 0: 2.5}.get(frame[1] >> 3 & 3)
    index, rate = frame[2] >> 4, frame[2] >> 2 & 3
    if version is None or rate == 3 or not 0 < index < 15:
        return False
    hertz = (44_100, 48_000, 32_000)[rate] / {1: 1, 2: 2, 2.5: 4}[version]
    kbits = _KBITS[1 if version == 1 else 2][index]
    return len(frame) < int((144 if version == 1 else 72) * kbits * 1000 / hertz)


@_in_place
def is_cut_ogg(file: BinaryIO) -> bool:
    """Whether an Ogg's last page reaches beyond the end of the file (page layout: RFC 3533, section 6)."""
    end = file.seek(0, os.SEEK_END)
    begin = max(0, end - 2 * 65_307)  # the largest page is 65,307 bytes
    file.seek(begin)
    tail = file.read()
    place = tail.rfind(b"OggS")
    if place < 0:
        return True
    page = tail[place:]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return True
    return len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])
