"""Makes pictures of pages small: at most 256 colours, which is all that flat pages need."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Iterator

SIGNATURE = b'\x89PNG\r\n\x1a\n'
COLOURS = 256
"""What a byte can choose among."""

RGB, PALETTE, RGBA = 2, 3, 6
"""Types of colour."""

Colour = tuple[int, ...]


def smaller(picture: bytes) -> bytes:
    """Return a picture with its most frequent colours; each other colour becomes the one that is most like it.

    Args:
        picture: a PNG with 8 bits for each channel, as browsers take it.
    """
    chunks = list(_chunks(picture))
    width, height, _, kind, *_ = struct.unpack('>IIBBBBB', chunks[0][1])
    channels = {RGB: 3, RGBA: 4}[kind]
    data = zlib.decompress(b''.join(body for name, body in chunks if name == b'IDAT'))
    lines = [
        list(zip(line[::channels], line[1::channels], line[2::channels], strict=True))
        for line in _unfiltered(data, width * channels, channels)
    ]
    counted = Counter(pixel for line in lines for pixel in line)
    palette = [colour for colour, _ in counted.most_common(COLOURS)]
    place = {colour: number for number, colour in enumerate(palette)}
    for colour in counted:
        if colour not in place:
            place[colour] = place[min(palette, key=lambda other: _distance(colour, other))]
    pixels = b''.join(b'\0' + bytes(place[pixel] for pixel in line) for line in lines)
    return SIGNATURE + b''.join(
        [
            _chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, PALETTE, 0, 0, 0)),
            _chunk(b'PLTE', bytes(channel for colour in palette for channel in colour)),
            _chunk(b'IDAT', zlib.compress(pixels, 9)),
            _chunk(b'IEND', b''),
        ]
    )


def _distance(one: Colour, other: Colour) -> int:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def _chunks(picture: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(SIGNATURE)
    while at < len(picture):
        size, name = struct.unpack_from('>I4s', picture, at)
        yield name, picture[at + 8 : at + 8 + size]
        at += size + 12


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack('>I', len(body)) + name + body + struct.pack('>I', zlib.crc32(name + body))


def _unfiltered(data: bytes, size: int, step: int) -> Iterator[bytes]:
    above = bytes(size)
    for at in range(0, len(data), size + 1):
        line = bytearray(data[at + 1 : at + 1 + size])
        match data[at]:
            case 1:
                for i in range(step, size):
                    line[i] = (line[i] + line[i - step]) & 255
            case 2:
                line = bytearray((a + b) & 255 for a, b in zip(line, above, strict=True))
            case 3:
                for i in range(size):
                    line[i] = (line[i] + ((line[i - step] if i >= step else 0) + above[i]) // 2) & 255
            case 4:
                for i in range(size):
                    left, corner = (line[i - step], above[i - step]) if i >= step else (0, 0)
                    line[i] = (line[i] + _nearest(left, above[i], corner)) & 255
        above = bytes(line)
        yield above


def _nearest(left: int, above: int, corner: int) -> int:
    guess = left + above - corner
    return min((left, above, corner), key=lambda value: abs(guess - value))
