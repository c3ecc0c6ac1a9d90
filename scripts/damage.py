"""Ways to damage a file: bytes that change, move or go away, and odd values in JSON texts."""

import io
import json
import random
import re
import zipfile
from collections.abc import Callable
from typing import Any

NUMBERS = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0xFFFFFFFF,
    0x7FFFFFFFFFFFFFFF,
    0xFFFFFFFFFFFFFFFF,
)
VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1 << 31,
    1 << 62,
    1.5,
    float("nan"),
    "",
    "relu",
    "Lambda",
    [],
    {},
    [[[]]],
)


def flip(content: bytearray, chance: random.Random) -> None:
    """Change some bytes."""
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        content[chance.randrange(len(content))] = chance.randrange(256)


def cut(content: bytearray, chance: random.Random) -> None:
    """Cut off the end, or a piece in the middle."""
    start = chance.randrange(len(content))
    del content[start : chance.choice((len(content), start + chance.randrange(1, 64)))]


def splice(content: bytearray, chance: random.Random) -> None:
    """Copy a piece to another place, over the bytes there or between them."""
    start, place = chance.randrange(len(content)), chance.randrange(len(content))
    piece = content[start : start + chance.randrange(1, 256)]
    content[place : place + chance.choice((0, len(piece)))] = piece


def overwrite(content: bytearray, chance: random.Random) -> None:
    """Write a suspicious number where a length or an address may be."""
    width, place = chance.choice((1, 2, 4, 8)), chance.randrange(len(content))
    number = chance.choice(NUMBERS) & (1 << 8 * width) - 1
    content[place : place + width] = number.to_bytes(width, chance.choice(("little", "big")))


def renumber(content: bytearray, chance: random.Random) -> None:
    """Change a number or a type that the file holds as text, and keep the length."""
    found = list(re.finditer(rb"\d+|[<>|=][a-zA-Z]\d", content))
    if found:
        start, end = chance.choice(found).span()
        content[start:end] = bytes(chance.choice(b"0123456789-OUVSf") for _ in range(end - start))


def change_json(text: str, chance: random.Random) -> str:
    """Change one value of a JSON text, and keep it valid."""
    whole = [json.loads(text)]
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        entries = list(value.items() if isinstance(value, dict) else enumerate(value))
        for key, inner in entries:
            places.append((value, key))
            if isinstance(inner, dict | list):
                walk(inner)

    walk(whole)
    holder, key = chance.choice(places)
    if chance.random() < 0.2 and isinstance(holder, dict):
        del holder[key]
    elif chance.random() < 0.3:
        source, other = chance.choice(places)
        is_there = isinstance(source, dict) and other in source
        holder[key] = json.loads(json.dumps(source[other])) if is_there else None
    else:
        holder[key] = chance.choice(VALUES)
    return json.dumps(whole[0])


def change_inside(suffix: str, content: bytearray, chance: random.Random) -> bytes:
    """Change something inside a well-formed file: a JSON text, or a file in an archive."""
    if suffix == ".json":
        return change_json(content.decode(), chance).encode()
    if suffix in (".h5", ".norm.h5"):
        return change_inside_hdf5(suffix, content, chance)
    if suffix == ".keras":
        return change_inside_keras(content, chance)
    renumber(content, chance)
    return bytes(content)


def change_inside_hdf5(suffix: str, content: bytearray, chance: random.Random) -> bytes:
    """Change the JSON text in one attribute of an HDF5 file."""
    import h5py

    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as file:
        name = "vggnorm" if suffix == ".norm.h5" and chance.random() < 0.5 else "model_config"
        file.attrs[name] = change_json(file.attrs[name], chance)
    return buffer.getvalue()


def change_inside_keras(content: bytearray, chance: random.Random) -> bytes:
    """Change the description of the model in a .keras archive, or damage its weights."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    if chance.random() < 0.7:
        members["config.json"] = change_json(members["config.json"].decode(), chance).encode()
    else:
        weights = bytearray(members["model.weights.h5"])
        chance.choice(DAMAGE)(weights, chance)
        members["model.weights.h5"] = bytes(weights)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, inner in members.items():
            archive.writestr(name, inner)
    return buffer.getvalue()


DAMAGE: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip,
    cut,
    splice,
    overwrite,
    renumber,
)


def damaged(suffix: str, content: bytes, seed: str) -> bytes:
    """Damage a file in one to three ways, which depend on the seed alone."""
    chance, changed = random.Random(seed), bytearray(content)
    if chance.random() < 0.4:
        return change_inside(suffix, changed, chance)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        if changed:
            chance.choice(DAMAGE)(changed, chance)
    return bytes(changed)
