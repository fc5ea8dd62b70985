"""Ways to damage a file, each by chance and the same for the same chance: bytes, fields, chunks of images, databases.

Each returns the new content, what was done in words, and a verdict where it knows one: `refuse` is of what cannot be
right, `same` of what may not change any result, `same or refuse` of what lies between. None leaves it to the reader.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

Damaged = tuple[bytes, str, str | None]

PLACES = [
    "/etc/passwd",
    "../outside.png",
    "/dev/zero",
    "fifo",
    "folder",
    "loop",
    "leads-out.png",
    "x" * 5000,
    "a\0b.png",
]
"""Names that no image of a data set may have; `fuzz.py` makes what they name."""
TEXTS = [
    "",
    " ",
    "\x1b[31m\x07",
    "a\nb\r\n\x85c",
    "\u202eabc",
    "\ud800",
    "x" * 100_000,
    "漢字 😀",
    "=1+1",
    'a"b',
    "a,b",
    "a\tb",
]
NUMBERS = ["NaN", "-Infinity", "1e999", "-1", "0", "-0", "1.5", "1e308", "5e-324", "2147483648", "9" * 5000]
DEEP = ["[" * 5000 + "]" * 5000, "[" * 200_000, '{"a":' * 2000 + "1" + "}" * 2000]
HEADERS = ['"F64"', '"I8"', "[1]", "[4000000000, 250]", "[0, 0]", "[0, 99999999999]"]
RAW = [*NUMBERS, *DEEP, *HEADERS, "true", "null", "[]", "{}", "[[]]", '{"a": 1}', *map(json.dumps, TEXTS + PLACES)]
"""Values as JSON has them, or as it does not."""
MORE = ["extra", "Prompt ", "\x1b[2J", "x" * 999]
"""Names of fields that are added."""
MARK = "@raw@"
STATEMENTS = """DELETE FROM entry; DELETE FROM run; DROP TABLE entry; DROP TABLE run; PRAGMA application_id = 7
UPDATE entry SET value = '0.123'; UPDATE entry SET value = 'NaN'; UPDATE entry SET value = '[[['
UPDATE entry SET value = CAST(x'ff' AS TEXT); UPDATE entry SET crc = crc + 1; UPDATE run SET value = 'x'
UPDATE run SET value = '9'; UPDATE run SET name = name || 'x'; ALTER TABLE entry RENAME TO old; CREATE TABLE more (a)
INSERT INTO run VALUES ('more', '1'); PRAGMA user_version = 9; INSERT INTO entry VALUES (x'00', '1', 0)"""


def damage(rng: Random, path: Path, data: bytes) -> Damaged:
    """Damage a file as fits its ending, or its bytes."""
    way = WAYS.get(path.suffix, in_bytes)
    content, what, verdict = (way if rng.random() < 0.7 else in_bytes)(rng, data)
    checked = (
        path.suffix == ".png" and not verdict and " IHDR" not in what and "tRNS" not in what
    )  # every chunk has a checksum
    return content, what, "same or refuse" if checked else verdict


def in_bytes(rng: Random, data: bytes) -> Damaged:
    """Flip, cut, remove, repeat, turn, zero or add bytes."""
    start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    end = min(end, start + rng.choice((1, 16, 4096)))
    flipped = bytearray(data)
    for _ in range(rng.choice((1, 1, 8, 64))):
        flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    ways = {
        "flip": bytes(flipped),
        "cut": data[:start],
        "remove": data[:start] + data[end:],
        "repeat": data[:end] + data[start:],
        "turn": data[:start] + data[start:end][::-1] + data[end:],
        "zero": data[:start] + bytes(end - start) + data[end:],
        "add": data[:start] + rng.randbytes(16) + data[start:],
        "begin": rng.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\0", b" \n", b"<!doctype html>\n")) + data,
        "empty": b"",
    }
    how = rng.choice(["flip", "flip", *ways])
    return ways[how], f"{how} {start}:{end}", None


# Fields


def walk(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every (container, key) of a document."""
    stack = [value]
    while stack:
        inner = stack.pop()
        for key in inner if isinstance(inner, dict) else range(len(inner)) if isinstance(inner, list) else ():
            yield inner, key
            stack.append(inner[key])


def change(rng: Random, document: Any, values: list[Any]) -> str:
    """Change one place of a document in place; say what was done."""
    container, key = rng.choice(list(walk(document)))
    how = rng.choice(("put", "put", "put", "put", "remove", "repeat", "more", "order"))
    value = rng.choice(values)
    if how == "put":
        container[key] = value
        return f"{key} = {value!s:.50}"
    if how == "remove":
        container.pop(key)
    elif how == "order":
        items = list(container.items() if isinstance(container, dict) else container)
        rng.shuffle(items)
        container.clear()
        (container.update if isinstance(container, dict) else container.extend)(items)
    elif isinstance(container, list):
        container.insert(key, container[key])
    else:
        name = f"{key}{MARK}" if how == "repeat" else rng.choice(MORE)
        container[name] = container[key]
    return f"{how} {key!s:.50}"


def written(document: Any, **layout: Any) -> str:
    """Write a document in which values are marked to be written as they are, and names to be there twice."""
    text = json.dumps(document, **layout)
    text = re.sub(f'"{MARK}((?:[^"\\\\]|\\\\.)*)"', lambda match: json.loads(f'"{match[1]}"'), text)
    return text.replace(f'{MARK}"', '"')


def in_json(rng: Random, data: bytes) -> Damaged:
    """Change a field, or only the layout, of a JSON document or of JSON lines."""
    lines = data.splitlines()
    rows = [json.loads(line) for line in lines] if len(lines) > 1 and lines[0].endswith(b"}") else json.loads(data)
    what = change(rng, rows, [MARK + raw for raw in RAW]) if rng.random() < 0.85 else "layout"
    if not isinstance(rows, list) or not lines[0].endswith(b"}"):
        layouts: list[dict[str, Any]] = [{}, {"indent": 3}, {"sort_keys": True}, {"ensure_ascii": False}]
        return ending(rng, written(rows, **rng.choice(layouts))), what, None
    between = rng.choice(("\n", "\n", "\r\n", "\n\n", "  \n"))
    return ending(rng, between.join(written(row, sort_keys=rng.random() < 0.2) for row in rows)), what, None


def ending(rng: Random, text: str) -> bytes:
    """Encode a text, with a beginning and an end of its own."""
    begin, end = rng.choice((b"", b"", b"", b"\xef\xbb\xbf")), rng.choice(("", "\n", "\n", "\n\n", " "))
    return begin + (text + end).encode(errors="surrogatepass")


def in_table(rng: Random, data: bytes) -> Damaged:
    """Change a cell, or only the layout, of a CSV or TSV file."""
    tab = "\t" if b"\t" in data else ","
    rows = list(csv.reader(io.StringIO(data.decode()), delimiter=tab))
    what = change(rng, rng.choice(rows), TEXTS + PLACES + rng.choice(rows)) if rng.random() < 0.85 else "layout"
    out, end = io.StringIO(), rng.choice(("\n", "\r\n"))
    quoting = csv.QUOTE_MINIMAL if tab == "\t" else rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    csv.writer(out, delimiter=tab, quoting=quoting, lineterminator=end).writerows(rows)
    return ending(rng, out.getvalue()), what, None


def in_parquet(rng: Random, data: bytes) -> Damaged:
    """Change a field, or only the compression and the row groups, of a parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(data))
    rows, what, out = table.to_pylist(), "layout", io.BytesIO()
    if rng.random() < 0.85:
        values = [None, *TEXTS, *PLACES, 0, -1, 2**31, 1.5, float("nan"), float("inf"), True, b"", b"no image", [], {}]
        what = change(rng, rows, values)
    for schema in (table.schema, None):
        try:
            table = pa.Table.from_pylist(rows, schema=schema)
            break
        except (pa.ArrowException, TypeError, ValueError, OverflowError, AttributeError):
            continue
    else:
        return in_bytes(rng, data)
    kind = rng.choice(("zstd", "snappy", "gzip", "none"))
    try:
        pq.write_table(table, out, compression=kind, row_group_size=rng.choice((1, 3, 1000)))
    except pa.ArrowNotImplementedError:  # a struct without fields
        return in_bytes(rng, data)
    return out.getvalue(), what, None


def in_toml(rng: Random, data: bytes) -> Damaged:
    """Change a line of a TOML file."""
    lines = data.decode().splitlines()
    place = rng.randrange(len(lines))
    name = lines[place].split(" = ")[0]
    values = ["nan", "inf", "1e-320", "2", "", '"none"', '"x"', '"\\u0000"', '"\\u001b[2J"', f'"{"x" * 100_000}"', *RAW]
    new = rng.choice(
        (
            *(f"{name} = {rng.choice(values)}" for _ in range(4)),
            *("", f"{lines[place]}\n{lines[place]}", f"{name}x = 1", f"\n  {lines[place]}  # said", f"[{name}]"),
        )
    )
    lines[place] = new
    return "\n".join([*lines, ""]).encode(errors="surrogatepass"), f"{new:.60}", None


# Containers


def in_png(rng: Random, data: bytes) -> Damaged:
    """Add, remove or damage a chunk of a PNG file."""
    chunks, at = [], 8
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size], True))
        at += 12 + size
    first = next(n for n, chunk in enumerate(chunks) if chunk[0] == b"IDAT")
    large, noise = zlib.compress(bytes(rng.choice((10, 3_000_000)))), rng.randbytes(30)
    more = [
        (b"tEXt", b"a\0" + noise * 2000),
        (b"zTXt", b"a\0\0" + large),
        (b"iCCP", b"a\0\0" + large),
        (b"iTXt", noise),
    ]
    more += [(b"eXIf", noise), (b"prVt", noise), (b"tIME", b""), (b"pHYs", b"\0")]
    n = rng.randrange(len(chunks))
    kind, body, _ = chunks[n]
    how = rng.choice(("add", "add", "add", "crc", "remove", "swap", "header", "after"))
    if how == "add":
        new = (*rng.choice(more), rng.random() < 0.8)
        chunks.insert(rng.randrange(1, first + 1), new)
        return joined(chunks), f"add {new[0]!r} of {len(new[1])} bytes, checksum {new[2]}", "same"
    if how == "header":
        header = bytearray(chunks[0][1])
        header[rng.randrange(13)] = rng.randrange(256)
        chunks[0] = (b"IHDR", bytes(header), True)
        return joined(chunks), "another IHDR", None
    if how == "remove":
        del chunks[n]
    elif how == "swap":
        chunks[n], chunks[-1] = chunks[-1], chunks[n]
    elif how == "crc":
        chunks[n] = (kind, body, False)
    else:
        chunks.append((b"junk", noise, True))
    needed = how == "remove" and kind in (b"IHDR", b"IDAT", b"PLTE")
    verdict = "refuse" if needed else "same" if how == "after" else None if kind == b"tRNS" else "same or refuse"
    return joined(chunks), f"{how} {kind!r}", verdict


def joined(chunks: list[tuple[bytes, bytes, bool]]) -> bytes:
    """Write the chunks (kind, content, whether the checksum is right) of a PNG file."""
    sums = (zlib.crc32(kind + body) ^ (not good) for kind, body, good in chunks)
    parts = (
        struct.pack(">I", len(c[1])) + c[0] + c[1] + struct.pack(">I", s) for c, s in zip(chunks, sums, strict=True)
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def in_jpeg(rng: Random, data: bytes) -> Damaged:
    """Add, remove or damage a segment of a JPEG file."""
    segments, at = [], 2
    while data[at + 1] != 0xDA:
        (size,) = struct.unpack_from(">H", data, at + 2)
        segments.append(data[at : at + 2 + size])
        at += 2 + size
    scan, n = data[at:], rng.randrange(len(segments))
    how = rng.choice(("add", "add", "remove", "length", "cut", "after", "no end", "header"))
    verdict = {"add": "same", "after": "same", "cut": "refuse", "no end": "same or refuse"}.get(how)
    if how == "add":
        body = rng.choice((b"", b"Exif\0\0MM\0*", b"JFIF\0", b"ICC_PROFILE\0\1\2", b"http://ns.adobe.com/xap/1.0/\0"))
        body += rng.randbytes(rng.choice((0, 20, 60_000)))
        marker = rng.choice((0xE1, 0xE2, 0xE4, 0xED, 0xFE))
        segments.insert(n + 1, bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body)
        how = f"add marker {marker:x}, {body[:8]!r}"
    elif how == "remove":
        del segments[n]
    elif how in ("length", "header"):
        place, size = (2, 2) if how == "length" else (rng.randrange(4, len(segments[n])), 1)
        segments[n] = segments[n][:place] + rng.randbytes(size) + segments[n][place + size :]
    else:
        cut = rng.randrange(20, len(scan) * 2 // 3)
        scan = {"cut": scan[:cut], "after": scan + rng.randbytes(200), "no end": scan[:-2]}[how]
    return data[:2] + b"".join(segments) + scan, f"segment {n}: {how}", verdict


def in_image(rng: Random, data: bytes) -> Damaged:
    """Cut an image file of another format to less than its half, or damage its bytes."""
    if rng.random() < 0.2:
        return data[: rng.randrange(len(data) // 2)], "cut to less than half", "refuse"
    return in_bytes(rng, data)


def in_safetensors(rng: Random, data: bytes) -> Damaged:
    """Change the header of a safetensors file, which is JSON, or its length."""
    size = int.from_bytes(data[:8], "little")
    if rng.random() < 0.2:
        length = rng.choice((0, 1, size - 1, size + 8, 2**31, 2**40, 2**63, 2**64 - 1))
        return length.to_bytes(8, "little") + data[8:], f"header of {length} bytes", "refuse"
    header = json.loads(data[8 : 8 + size])
    what = change(rng, header, [MARK + raw for raw in RAW]) if rng.random() < 0.9 else "layout"
    text = written(header, separators=(",", ":")).encode(errors="surrogatepass")
    text += b" " * (-len(text) % 8)
    verdict = (
        "same or refuse" if what.startswith("repeat") else None
    )  # safetensors refuses some names that are there twice
    return len(text).to_bytes(8, "little") + text + data[8 + size :], what, verdict


def in_zip(rng: Random, data: bytes) -> Damaged:
    """Write a zip file again with a member less, renamed, compressed or of other content, or with a program in it."""
    source, out = zipfile.ZipFile(io.BytesIO(data)), io.BytesIO()
    how = rng.choice(("remove", "rename", "compress", "change", "change", "program"))
    chosen = rng.choice([name for name in source.namelist() if how != "program" or name.endswith("data.pkl")])
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if how == "compress" else zipfile.ZIP_STORED) as target:
        for name in source.namelist():
            content = source.read(name)
            if name == chosen and how == "change":
                content = in_bytes(rng, content or b"x")[0]
            if name == chosen and how == "program":  # the call of a function when it is loaded
                content = b"\x80\x02cos\nsystem\nX\x0d\x00\x00\x00touch outsideq\x00\x85R."
            if name != chosen or how != "remove":
                target.writestr(f"{name}x" if name == chosen and how == "rename" else name, content)
    return out.getvalue(), f"{how} {chosen}", "refuse" if how == "program" else None


def in_database(rng: Random, data: bytes) -> Damaged:
    """Change rows or tables of a ledger."""
    statement = rng.choice(re.split(r"; |\n", STATEMENTS))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "database"
        path.write_bytes(data)
        database = sqlite3.connect(path, isolation_level=None)
        database.execute(statement)
        database.close()
        return path.read_bytes(), statement, None


WAYS: dict[str, Callable[[Random, bytes], Damaged]] = {
    **dict.fromkeys((".json", ".jsonl"), in_json),
    **dict.fromkeys((".csv", ".tsv"), in_table),
    **dict.fromkeys((".webp", ".gif", ".tif", ".bmp", ".ppm", ".avif"), in_image),
    **dict.fromkeys((".partial", ".ledger"), in_database),
    ".parquet": in_parquet,
    ".toml": in_toml,
    ".png": in_png,
    ".jpg": in_jpeg,
    ".safetensors": in_safetensors,
    ".pt": in_zip,
}
"""Ending of a file -> how it is damaged."""
