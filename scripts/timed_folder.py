"""Folders of any number of photos, for what scripts/benchmark.py measures."""

from pathlib import Path

import click

from vggnorm.photos.finding import EXTENSIONS


def repeat_photos(source: Path, count: int, folder: Path) -> Path:
    """Make a folder of `count` links to the photos of another folder, which repeat if necessary."""
    photos = sorted(path for path in source.rglob("*") if path.suffix.lower() in EXTENSIONS)
    if not photos:
        raise click.ClickException(f"{source}: holds no images; give a folder of photos")
    folder.mkdir()
    for index in range(count):
        photo = photos[index % len(photos)]
        (folder / f"{index:06}{photo.suffix}").symlink_to(photo.resolve())
    return folder
