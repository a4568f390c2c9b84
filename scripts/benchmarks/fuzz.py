"""Files that attack a reader: crafted ones, and valid ones with damaged bytes. A number names a file for ever."""

import io
import pickle
import random
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
from PIL import Image

Case = tuple[str, bytes]
"""What kind of file it is, and its content."""

_SIDE = 7000  # 49 million pixels, just below the limit of the readers
LARGE_IMAGES = 11
"""The first crafted images are valid and large, and take long to make."""
AT_ONCE = ", four at once"
"""Ends the kind of a file that four threads read at once."""
_EXTREMES = (0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)


def image_case(number: int) -> Case:
    """Return the image of a number; the crafted ones come first."""
    return _case(number, crafted_images(), image_seeds)


def weights_case(number: int) -> Case:
    """Return the weights file of a number; the crafted ones come first."""
    return _case(number, crafted_weights(), weights_seeds)


def _case(number: int, crafted: dict[str, Callable[[], bytes]], seeds: Callable[[], dict[str, bytes]]) -> Case:
    names = list(crafted)
    if number < len(names):
        return names[number], crafted[names[number]]()
    draw = random.Random(number)
    kinds = sorted(seeds())
    kind = draw.choice(kinds)
    return f"damaged {kind}", damaged(seeds()[kind], seeds()[draw.choice(kinds)], draw)


def damaged(content: bytes, other: bytes, draw: random.Random) -> bytes:
    """Return a file with damaged bytes: flipped, cut, overwritten, repeated, or with the end of another file."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 8))):
        # Most damage goes to the start, where sizes and offsets are.
        at = draw.randrange(min(len(data), 300) if draw.random() < 0.7 else len(data)) if data else 0
        match draw.randrange(7):
            case 0 if data:
                data[at] ^= 1 << draw.randrange(8)
            case 1:
                del data[at:]
            case 2:
                size = draw.choice((1, 2, 4, 8))
                value = draw.choice(_EXTREMES) % 256**size
                data[at : at + size] = value.to_bytes(size, draw.choice(("little", "big")))
            case 3:
                data[at:at] = data[at : at + draw.randrange(1, 2000)] * draw.randrange(1, 5)
            case 4:
                del data[at : at + draw.randrange(1, 200)]
            case 5:
                data[at : at + 16] = draw.randbytes(16)
            case _:
                data[at:] = other[-draw.randrange(1, len(other)) :]
    return bytes(data)


@cache
def image_seeds() -> dict[str, bytes]:
    """Return a small valid file of each format and mode."""
    y, x = np.mgrid[:48, :64]
    photo = Image.fromarray(np.stack([4 * x, 5 * y, 2 * (x + y)], 2).astype(np.uint8))
    alpha = photo.copy()
    alpha.putalpha(photo.convert("L"))
    grey16 = Image.fromarray((1000 * x).astype(np.uint16))
    made = {
        "PNG": _saved(photo, "PNG"),
        "PNG with alpha": _saved(alpha, "PNG"),
        "PNG with palette": _saved(photo.quantize(16), "PNG"),
        "PNG of 16 bits": _saved(grey16, "PNG"),
        "JPEG": _saved(photo, "JPEG"),
        "progressive JPEG": _saved(photo, "JPEG", progressive=True),
        "CMYK JPEG": _saved(photo.convert("CMYK"), "JPEG"),
        "WebP": _saved(photo, "WEBP"),
        "lossless WebP": _saved(alpha, "WEBP", lossless=True),
        "animated WebP": _saved(photo, "WEBP", save_all=True, append_images=[photo.rotate(9)]),
        "GIF": _saved(photo, "GIF", save_all=True, append_images=[photo.rotate(9)]),
        "BMP": _saved(photo, "BMP"),
        "TIFF": _saved(photo, "TIFF"),
        "float TIFF": _saved(Image.fromarray((x / 64).astype(np.float32)), "TIFF"),
        "TIFF of 16 bits": _saved(grey16, "TIFF"),
        **{f"{name} TIFF": _saved(photo, "TIFF", compression=name) for name in ("tiff_lzw", "tiff_deflate", "jpeg")},
        "TIFF of pages": _saved(photo, "TIFF", save_all=True, append_images=[photo]),
        "AVIF": _saved(photo, "AVIF"),
    }
    stream = io.BytesIO()
    np.save(stream, np.zeros((8, 8, 5), np.float32))
    made["npy"] = stream.getvalue()
    stream = io.BytesIO()
    np.savez_compressed(stream, np.zeros((8, 8, 5), np.float32))
    return made | {"npz": stream.getvalue()}


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def crafted_images() -> dict[str, Callable[[], bytes]]:
    """Return makers of images that are small as files and large or slow for a careless reader."""
    large: dict[str, dict[str, Any]] = {
        "PNG": {"compress_level": 1},
        "JPEG": {"progressive": True},
        "GIF": {},
        "AVIF": {"speed": 10},
    }
    large |= {"WEBP": {"lossless": True, "quality": 0, "method": 0}, "TIFF": {"compression": "tiff_lzw"}}
    modes = {"PNG": "RGBA", "GIF": "P", "TIFF": "CMYK"}

    def full(kind: str, mode: str = "") -> bytes:
        return _saved(Image.new(mode or modes.get(kind, "RGB"), (_SIDE, _SIDE)), kind, **large[kind])

    return {
        **{f"{kind} of 49 million pixels": partial(full, kind) for kind in large},
        "PNG of 16 bits, 49 million pixels": lambda: _saved(Image.new("I;16", (_SIDE, _SIDE)), "PNG", compress_level=1),
        "float TIFF of 49 million pixels": lambda: _saved(
            Image.new("F", (_SIDE, _SIDE)), "TIFF", compression="tiff_lzw"
        ),
        "BMP of 49 million pixels": lambda: _saved(Image.new("1", (_SIDE, _SIDE)), "BMP"),
        "npz of half a gigabyte": lambda: _npz(520 << 20),
        "PNG whose colour profile inflates": lambda: _png((b"iCCP", b"a\0\0" + zlib.compress(bytes(500 << 20), 1))),
        "PNG of 400 million pixels": lambda: _saved(Image.new("1", (20_000, 20_000)), "PNG"),
        "narrow PNG": lambda: _saved(Image.new("RGB", (1000, 48_000)), "PNG", compress_level=1),
        "TIFF whose tile width is two numbers": lambda: _tiff({322: [1000, 1000], 323: [1000]}),
        "TIFF of 4.9 million strips": lambda: _tiff({273: [8] * 4_900_000, 278: [1], 279: [1] * 4_900_000}),
        "TIFF whose tiles are larger than it": lambda: _tiff({322: [65_520], 323: [65_520]}),
        "TIFF with a loop of pages": lambda: _tiff({}, following=8),
        "TIFF of 4000 tags whose page follows itself": lambda: _pages([(40_000, 3, 1, 0)] * 4000, [8]),
        "TIFF of 45 pages that share 262,144 strips": _shared_strips,
        "TIFF of tags that share 18 MiB": _sharing_tags,
        "TIFF whose strip inflates to 1 GB": _inflating_tiff,
        **{
            f"{kind} RGB TIFF of {side} x {side}": partial(_float_tiff, kind, side)
            for kind, side in (("float16", 6000), ("float32", 4500), ("float32", 7000), ("float64", 5700))
        },
        f"PNG of 49 million pixels{AT_ONCE}": partial(full, "PNG", "RGB"),
        "PNG whose EXIF tags share 18 MiB": lambda: _png((b"eXIf", _sharing_tags())),
        "JPEG of 2000 scans": _jpeg_of_scans,
        "JPEG whose header says 65,500 x 65,500": lambda: _resized_jpeg(65_500),
        "PNG of a million chunks": lambda: _png(*[(b"aaAa", b"")] * 1_000_000),
        "PNG whose texts inflate": lambda: _png(*[(b"zTXt", b"a\0\0" + zlib.compress(bytes(60 << 20)))] * 20),
        "npy whose header says 10^12 numbers": lambda: _npy((10**6, 10**6)),
        "20 MiB of random bytes after a PNG's start": lambda: (
            b"\x89PNG\r\n\x1a\n" + random.Random(0).randbytes(20 << 20)
        ),
    }


def _tiff(tags: dict[int, list[int]], following: int = 0) -> bytes:
    """Return a grey TIFF with further or other tags."""
    side = 1000
    known = {
        256: [side],
        257: [side],
        258: [8],
        259: [1],
        262: [1],
        273: [8],
        277: [1],
        278: [side],
        279: [side * side],
    }
    directory, values = b"", b""
    entries = sorted((known | tags).items())
    after = 8 + 2 + 12 * len(entries) + 4
    for tag, numbers in entries:
        kind, letter, size = (3, "H", 2) if max(numbers) < 2**16 else (4, "I", 4)
        packed = struct.pack(f"<{len(numbers)}{letter}", *numbers)
        place = packed.ljust(4, b"\0") if len(numbers) * size <= 4 else struct.pack("<I", after + len(values))
        directory += struct.pack("<HHI", tag, kind, len(numbers)) + place
        values += packed if len(packed) > 4 else b""
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + struct.pack("<I", following)
    return head + values + bytes(4096)


def _pages(tags: list[tuple[int, int, int, int]], links: list[int]) -> bytes:
    """Return a TIFF of pages with the same tags: number, type, count, value; `links` lead from each to the next."""
    page = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<I", 8) + b"".join(page + struct.pack("<I", link) for link in links)


def _shared_strips() -> bytes:
    """Return a TIFF of pages of 1 x 262,144 int64 values, one row a strip, with one table of strips for all pages."""
    count, pages, tags = 2**18, 45, 11
    size = 2 + 12 * tags + 4
    table = 8 + pages * size
    entries = [(256, 3, 1, 1), (257, 4, 1, count), (258, 3, 1, 64), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 4, count, table), (277, 3, 1, 1), (278, 3, 1, 1), (279, 4, count, table + 4 * count)]
    entries += [(284, 3, 1, 1), (339, 3, 1, 2)]
    links = [8 + size * (number + 1) for number in range(pages - 1)] + [0]
    return _pages(entries, links) + struct.pack("<I", 8) * count + struct.pack("<I", 8) * count


def _sharing_tags() -> bytes:
    return _pages([(40_000 + number, 7, 18 << 20, 8) for number in range(4000)], [0]) + bytes(18 << 20)


def _float_tiff(kind: str, side: int) -> bytes:
    """Return a compressed RGB TIFF of zeros, 64 rows a strip; made of one strip, so that it takes no memory here."""
    rows = 64
    strip = zlib.compress(bytes(rows * side * 3 * np.dtype(kind).itemsize))
    count = -(-side // rows)
    tags = 11
    start = 8 + 2 + 12 * tags + 4
    bits = 8 * np.dtype(kind).itemsize
    entries = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 3, start), (259, 3, 1, 8), (262, 3, 1, 2)]
    entries += [(273, 4, count, start + 12), (277, 3, 1, 3), (278, 3, 1, rows), (279, 4, count, start + 12 + 4 * count)]
    entries += [(284, 3, 1, 1), (339, 3, 3, start + 6)]
    at = start + 12 + 8 * count
    values = struct.pack("<6H", bits, bits, bits, 3, 3, 3) + struct.pack(f"<{count}I", *[at] * count)
    return _pages(entries, [0]) + values + struct.pack(f"<{count}I", *[len(strip)] * count) + strip


def _inflating_tiff() -> bytes:
    """Return a TIFF of 128 x 128 floating-point pixels whose strips inflate to 1 GB each."""
    deflate = zlib.compressobj(1)
    strip = b"".join(deflate.compress(bytes(2**20)) for _ in range(1024)) + deflate.flush()
    content = _float_tiff("float32", 128)  # of two strips
    lengths = 8 + 2 + 12 * 11 + 4 + 12 + 8
    return content[:lengths] + struct.pack("<II", len(strip), len(strip)) + strip


def _jpeg_of_scans() -> bytes:
    """Return a progressive JPEG whose last scan comes two thousand times."""
    content = _saved(Image.new("L", (4000, 4000), 90), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * 2000 + content[-2:]


def _resized_jpeg(side: int) -> bytes:
    content = bytearray(_saved(Image.new("L", (64, 64)), "JPEG"))
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", side, side)
    return bytes(content)


def _png(*chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG with further chunks before its pixels."""
    content = image_seeds()["PNG"]
    added = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return content[:33] + added + content[33:]


def _npy(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue() + bytes(100)


def _npz(size: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("a.npy", _npy((size // 4,))[:-100] + bytes(size))
    return stream.getvalue()


@cache
def weights_seeds() -> dict[str, bytes]:
    """Return a small valid weights file of each format."""
    import torch
    from safetensors.torch import save

    from swin_core.system.seal import sealed

    state = _model_state()
    plain, checkpoint, old = io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save(state, plain)
    torch.save(
        {"state_dict": state, "epoch": 3, "milestones": Counter([1, 2])}, old, _use_new_zipfile_serialization=False
    )
    with sealed(checkpoint) as file:
        torch.save({"place": {"epoch": 1}, "model": state, "optimizers": [], "metadata": _metadata()}, file)
    return {
        "safetensors": save(state, {"swinlens": _json(_metadata())}),
        "pth": plain.getvalue(),
        "checkpoint of a run": checkpoint.getvalue(),
        "pth of an old PyTorch": old.getvalue(),
    }


@cache
def _model_state() -> dict[str, Any]:
    import torch

    import swin_core

    torch.manual_seed(0)
    model = swin_core.build("swin_nano", num_classes=3, image_size=16)
    return {key: value.clone() for key, value in model.state_dict().items()}


def _metadata(**changes: Any) -> dict[str, Any]:
    import swin_core

    config = swin_core.build("swin_nano", num_classes=3, image_size=16).config.to_dict()
    facts = {"labels": ["ant", "bee", "cow"], "mean": [0.5] * 3, "std": [0.25] * 3, "image_size": 16, "config": config}
    return {**facts, **changes}


def _json(values: dict[str, Any]) -> str:
    import json

    return json.dumps(values, sort_keys=True)


def crafted_weights() -> dict[str, Callable[[], bytes]]:
    """Return makers of weights files that lie about sizes and numbers, or inflate."""
    nan, infinite = float("nan"), float("inf")

    def with_metadata(**changes: Any) -> bytes:
        from safetensors.torch import save

        return save(_model_state(), {"swinlens": _json(_metadata(**changes))})

    facts: dict[str, dict[str, Any]] = {
        f"std {value!r}": {"std": [value] * 3} for value in (1e-300, 1e-45, 0.0, -1.0, nan, infinite, 1e300, "a", None)
    }
    facts |= {f"mean {value!r}": {"mean": [value] * 3} for value in (nan, infinite, -infinite, 1e300, 1e-320)}
    facts |= {f"image_size {value!r}": {"image_size": value} for value in (4096, 10**9, 0, -1, 2.5, nan, "224", True)}
    facts |= {f"{count} labels": {"labels": ["a"] * count} for count in (0, 2, 10**6)}
    facts |= {f"{key} {value!r}": {key: value} for key in ("mean", "std") for value in ([], [0.5], [0.5] * 1000, 3)}
    return {
        **{f"safetensors with {name}": partial(with_metadata, **change) for name, change in facts.items()},
        "pickle of a bytearray of 2 GB": lambda: _pth(b"c__builtin__\nbytearray\n(J\xff\xff\xff\x7ftR."),
        "pickle of 300,000 copies of a tuple": lambda: _pth(_copies(b"ctorch\nSize\n", 300_000)),
        "pickle of 300,000 copies as counters": lambda: _pth(_copies(b"ccollections\nCounter\n", 300_000)),
        "pickle of a million lists": lambda: _pth(b"\x80\x02](" + b"]" * 1_000_000 + b"e."),
        "deeply nested pickle": lambda: _pth(b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b"."),
        "tensors of 10^10 numbers without a storage": _strided,
        "compressed archive": lambda: _compressed(400 << 20),
        "safetensors with a header of 4 GB": lambda: struct.pack("<Q", 2**32 - 10) + b"{" + bytes(1000),
        "safetensors with a header of 50 MB": lambda: _long_header(50 << 20),
        "pickle that runs code": lambda: _pth(pickle.dumps(_Payload(), 2)),
    }


class _Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("code of a weights file ran",)


def _pth(program: bytes) -> bytes:
    """Return a file of `torch.save` whose pickle is `program`."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in (("data.pkl", program), ("byteorder", b"little"), ("version", b"3\n")):
            archive.writestr(f"archive/{name}", content)
    return stream.getvalue()


def _copies(function: bytes, count: int) -> bytes:
    """Return a pickle that calls a function of one iterable, a tuple of a thousand numbers, many times."""
    numbers = b"(" + b"".join(b"M" + struct.pack("<H", number) for number in range(1000)) + b"t"
    return b"\x80\x02" + function + b"q\0" + numbers + b"q\1" + b"](" + b"h\0h\1\x85R" * count + b"e."


def _strided() -> bytes:
    import torch

    state = {key: torch.zeros(1).expand(100_000, 100_000) for key in _model_state()}
    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getvalue()


def _compressed(size: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(size))
    return stream.getvalue()


def _long_header(size: int) -> bytes:
    text = b'{"__metadata__":{"a":"' + b"b" * size + b'"}}'
    return struct.pack("<Q", len(text)) + text
