"""Functions that damage a file. Some damage any bytes, and others damage the elements of a format."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    Mutation = Callable[[bytes, Random], bytes]

#: Lengths, counts and offsets that often break programs.
EDGES = (0, 1, 7, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32)
EDGES += (2**40, 2**48, 2**53 + 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1)


def mutate(form: str, content: bytes, other: bytes, random: Random) -> bytes:
    """Damage a file of a format one to five times. `other` is a valid file, from which parts are inserted."""
    ways = [*_PLAIN, *_OF_FORMAT.get(form, _TEXT) * 2]
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 5))):
        spliced = random.random() < 0.05
        way = random.choice(ways)
        content = _splice(content, other, random) if spliced else way(content, random)
    return content


def _offset(content: bytes, random: Random) -> int:
    """Choose an offset. Most offsets are near the beginning or the end, where the structure of a file is."""
    size = len(content)
    kind = random.random()
    if kind < 0.25:
        return random.randrange(min(size, 128) + 1)
    if kind < 0.5:
        return size - random.randrange(min(size, 128) + 1)
    return random.randrange(size + 1)


def _flip(content: bytes, random: Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 8)) if content else 0):
        damaged[min(_offset(content, random), len(content) - 1)] ^= 1 << random.randrange(8)
    return bytes(damaged)


def _fill(content: bytes, random: Random) -> bytes:
    at, length = _offset(content, random), random.choice((1, 2, 4, 8, 64))
    value = random.choice((0, 0xFF, 0x80, 0x0A, 0x20, random.randrange(256)))
    return content[:at] + bytes([value]) * len(content[at : at + length]) + content[at + length :]


def _truncate(content: bytes, random: Random) -> bytes:
    return content[: _offset(content, random)]


def _remove(content: bytes, random: Random) -> bytes:
    at = _offset(content, random)
    return content[:at] + content[at + random.choice((1, 2, 4, 8, 100)) :]


def _insert(content: bytes, random: Random) -> bytes:
    at = _offset(content, random)
    return content[:at] + random.randbytes(random.choice((1, 2, 4, 8, 100))) + content[at:]


def _repeat(content: bytes, random: Random) -> bytes:
    at, length = _offset(content, random), random.choice((1, 8, 64, 1024))
    return (
        content[: at + length]
        + content[at : at + length] * random.choice((1, 2, 50))
        + content[at + length :]
    )


def _number(content: bytes, random: Random) -> bytes:
    width = random.choice((1, 2, 4, 8))
    value = (random.choice(EDGES) + random.choice((0, 0, 1, -1))) % 256**width
    at = _offset(content, random)
    return (
        content[:at]
        + value.to_bytes(width, random.choice(("little", "big")))
        + content[at + width :]
    )


def _splice(content: bytes, other: bytes, random: Random) -> bytes:
    return content[: _offset(content, random)] + other[_offset(other, random) :]


_PLAIN: list[Mutation] = [_flip, _fill, _truncate, _remove, _insert, _repeat, _number]

_WORDS = rb"""loop_ data_ data_particles data_optics _ ; ' " '' 'a a'b # nan -inf 1e999 0x10 1_0 1e <null> 1.5
    9007199254740993 -9223372036854775809 99999999999999999999999 ../../x.mrc <script> _rlnMicrographName""".split()
_WORDS += [b"\n", b"\n\n", b"\r\n", b"\t", b"\v", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\x1b[2J"]
_WORDS += [b"x" * 10_000, b"_rlnOpticsGroup 1", b"_rlnCoordinateX #1"]


def _words(content: bytes, random: Random) -> bytes:
    parts = re.split(rb"(\s+)", content)
    at = random.randrange(len(parts))
    parts[at] = random.choice((random.choice(_WORDS), random.choice(parts)))
    return b"".join(parts)


def _lines(content: bytes, random: Random) -> bytes:
    lines = content.splitlines(keepends=True) or [b""]
    one, two = random.randrange(len(lines)), random.randrange(len(lines))
    way = random.randrange(4)
    if way == 0:
        lines[one], lines[two] = lines[two], lines[one]
    elif way == 1:
        del lines[one]
    elif way == 2:
        lines.insert(one, lines[two])
    else:
        lines.insert(one, random.choice(_WORDS) + b"\n")
    return b"".join(lines)


_NPY_TOKENS = r"""' ( ) [ ] { } , : -1 0 None True () '|O' '<f4' '<f2' '>u8' '|S0' '<U0' '<M8[s]' '|V8' '<c16' '|b1'
    '<f16' '|S4294967296' '|S2147483647' 'uid' '' 'a\nb' 'shape' 'descr' '\x1b' 1e9 -9223372036854775808"""
_NPY_WORDS = [
    *_NPY_TOKENS.split(),
    "9" * 30,
    "(1, 2)",
    "('uid', '<u8')",
    "('a', '<f4', (0,))",
    "('a', '<f4', 3)",
]
_NPY_WORDS += ["('a', '<f4', (2147483648,))", "('a', [('b', '<u4')])", "(('title', 'a'), '<f4')"]


def _npy_header(content: bytes, random: Random) -> bytes:
    """Damage the header. In most cases the stored length of the header is correct."""
    width = 2 if content[6:7] == b"\1" else 4
    start = 8 + width
    stop = start + int.from_bytes(content[8:start], "little")
    text = content[start:stop].decode("latin-1")
    parts = re.split(r"('[^']*'|\d+|[(){}\[\],: ])", text)
    parts[random.randrange(len(parts))] = random.choice(
        (random.choice(_NPY_WORDS), random.choice(parts), str(random.choice(EDGES)))
    )
    header = "".join(parts).encode("latin-1", "replace")
    if random.random() < 0.9:
        length = (len(header) % 256**width).to_bytes(width, "little")
        return content[:8] + length + header + content[stop:]
    return content[:start] + header + content[stop:]


_JSON_VALUES: list[Any] = ["|O", "<f4", "|S4", "<U2", "lz4", "uid", "O", "|S2147483647", "|V0"]
_JSON_VALUES += ["<M8", "", "<f4, <f4", "é\n", "x" * 1000, None, True, -1, 0, 1, 1.5, 1e300, *EDGES]
_JSON_VALUES += [[], {}, [0], [2, 2], [-1], [2**31], [2**63], [None], ["a", "<f4"], ["uid", "<u8"]]
_JSON_VALUES += [["a", "|O", [2]], ["a", [["b", "<u4"]]]]


def _csdat_header(content: bytes, random: Random) -> bytes:
    length = int.from_bytes(content[6:10], "little")
    try:
        header = json.loads(content[10 : 10 + length])
    except ValueError:
        return _flip(content, random)
    spots: list[tuple[Any, Any]] = []

    def note(node: Any) -> None:
        pairs = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in list(pairs):
            spots.append((node, key))
            if isinstance(value, (dict, list)):
                note(value)

    if isinstance(header, (dict, list)):
        note(header)
    if spots:
        node, key = random.choice(spots)
        way = random.random()
        if way < 0.15:
            del node[key]
        elif way < 0.3:
            donor, name = random.choice(spots)
            node[key] = donor[name] if not isinstance(donor[name], (dict, list)) else 1
        elif way < 0.4 and isinstance(node, list):
            node.insert(key, random.choice(_JSON_VALUES))
        else:
            node[key] = random.choice(_JSON_VALUES)
    text = json.dumps(header).encode()
    return content[:6] + len(text).to_bytes(4, "little") + text + content[10 + length :]


def _csdat_lengths(content: bytes, random: Random) -> bytes:
    """Damage the length of a column or its content."""
    at = 10 + int.from_bytes(content[6:10], "little")
    offsets = []
    while at + 4 <= len(content) and len(offsets) < 20:
        offsets.append(at)
        at += 4 + int.from_bytes(content[at : at + 4], "little")
    if not offsets:
        return _number(content, random)
    offset = random.choice(offsets)
    if random.random() < 0.5:
        value = random.choice((random.choice(EDGES) % 2**32, len(content) - offset))
        return content[:offset] + value.to_bytes(4, "little") + content[offset + 4 :]
    at = offset + 4 + 8 * random.randrange(4)
    return content[:at] + random.choice(EDGES).to_bytes(8, "little") + content[at + 8 :]


_YAML_WORDS = rb"""&a *a *blob | > ' { } [ ] /etc/passwd '>../J1_particles.cs' '>' '>.' '>picks.csg' '>a\0b'
    ">\0" '>J1_particles.cs' results: metafile: num_items: ~ !x "\ud800" ">\ud800" """.split()
_YAML_WORDS += [
    b"!!python/object/apply:os.system ['true']",
    b"<<: *blob",
    b"!!binary x",
    b"? ",
    b": ",
]
_YAML_WORDS += [b"- ", b"---\n", b"...\n", b"%YAML 9.9\n", b"\t", b"\xff", b"\xef\xbb\xbf"]
_YAML_WORDS += [b"{" * 300, b"[" * 300, b"'>" + b"n" * 300 + b"'"]


def _yaml(content: bytes, random: Random) -> bytes:
    parts = re.split(rb"([\s,:{}]+)", content)
    at = random.randrange(len(parts))
    parts[at] = random.choice((random.choice(_YAML_WORDS), random.choice(parts)))
    return b"".join(parts)


def _parquet_footer(content: bytes, random: Random) -> bytes:
    """Damage the footer and correct its length."""
    length = int.from_bytes(content[-8:-4], "little")
    if not 0 < length <= len(content) - 12:
        return _number(content, random)
    footer = content[-8 - length : -8]
    way = random.random()
    if way < 0.5:
        footer = random.choice(_PLAIN)(footer, random)
    else:
        # Thrift stores whole numbers as zigzag varints.
        at, value = random.randrange(len(footer)), random.choice(EDGES)
        number = bytearray()
        while value >= 128:
            number.append(value % 128 + 128)
            value //= 128
        number.append(value)
        stop = at + 1
        while stop < len(footer) and footer[stop - 1] >= 128:
            stop += 1
        footer = footer[:at] + bytes(number) + footer[stop:]
    return content[: -8 - length] + footer + len(footer).to_bytes(4, "little") + content[-4:]


def _parquet_page(content: bytes, random: Random) -> bytes:
    """Damage the pages before the footer, without a change of their length."""
    length = int.from_bytes(content[-8:-4], "little")
    body = content[4 : -8 - length]
    if not body:
        return _flip(content, random)
    at = random.randrange(len(body))
    way = random.randrange(3)
    if way == 0:
        damaged = random.randbytes(random.choice((1, 2, 8)))
    elif way == 1:
        damaged = b"\xff" * random.choice((1, 4, 5)) + b"\x0f"
    else:
        damaged = bytes([body[at] ^ (1 << random.randrange(8))])
    body = (body[:at] + damaged + body[at + len(damaged) :])[: len(body)]
    return content[:4] + body + content[-8 - length :]


def _json_value(content: bytes, random: Random) -> bytes:
    """Replace a value, a key or a bracket of JSON text."""
    parts = re.split(rb"([\[\]{}:,])", content)
    at = random.randrange(len(parts))
    value = json.dumps(random.choice(_JSON_VALUES)).encode()
    parts[at] = random.choice((value, value, random.choice(parts), b"NaN", b'"\\ud800"', b"1e999"))
    return b"".join(parts)


#: Mutations of text formats that are not listed below, such as most pick files.
_TEXT: list[Mutation] = [_words, _words, _lines]
_OF_FORMAT: dict[str, list[Mutation]] = {
    "em": [_number, _number],
    "imod": [_number, _number],
    "copick": [_json_value, _json_value, _words],
    "eman2": [_json_value, _json_value, _words],
    "portal": [_json_value, _json_value, _words, _lines],
    "npy": [_npy_header, _npy_header, _npy_header],
    "csdat": [_csdat_header, _csdat_lengths],
    "csg": [_yaml, _yaml, _lines],
    "parquet": [_parquet_footer, _parquet_footer, _parquet_page, _parquet_page],
}
