"""Archives from strangers: nothing is written, little memory is taken, and each error is a line."""

import bz2
import gzip
import io
import lzma
import os
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from archive_files import FILES, take_all, tar_bytes, write, zip_bytes
from photo_files import error_of

from vggnorm.photos import places, remote
from vggnorm.photos.finding import find_photos
from vggnorm.photos.source import ChangedError

PHOTO = FILES["a.jpg"]

DIRECTORY = b"PK\x01\x02"  # with which an entry of the directory begins


def in_directory(archive: bytes, offset: int, layout: str, *values: int) -> bytes:
    """Write values into the first entry of the directory."""
    changed = bytearray(archive)
    struct.pack_into(layout, changed, archive.index(DIRECTORY) + offset, *values)
    return bytes(changed)


def refused(tmp_path: Path, name: str, content: bytes) -> str:
    """Say why an archive is refused, without its path."""
    path = write(tmp_path / name, content)
    error = error_of(find_photos, path)
    assert "\n" not in error
    where, _, why = error.partition(": ")
    assert where == str(path)
    return why


def skipped(tmp_path: Path, name: str, content: bytes) -> dict[str, str]:
    """Say which photos of an archive are skipped, and why; the others are used."""
    taken = take_all(find_photos(write(tmp_path / name, content)))
    return {photo.photo: photo.reason for photo in taken.skipped}


# Names


@pytest.mark.parametrize("make", [zip_bytes, tar_bytes])
def test_nothing_is_written_by_the_names_of_an_archive(
    tmp_path: Path, make: Callable[[dict[str, bytes]], bytes]
) -> None:
    hidden = ["../x.jpg", "../../etc/x.jpg", "a/../../x.jpg", ".x/x.jpg", "__MACOSX/._x.jpg"]
    names = [*hidden, f"{tmp_path}/abs.jpg", "line\nbreak.jpg", "a.jpg"]
    name = "a.zip" if make is zip_bytes else "a.tar"
    path = write(tmp_path / name, make(dict.fromkeys(names, PHOTO)))
    photos = find_photos(path)
    # What tar itself does with the name of a file that is below the root:
    absolute = f"{tmp_path}/abs.jpg"
    assert set(photos.names) == {absolute, "a.jpg", "line\nbreak.jpg"}
    assert take_all(photos).used == 3
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_same_name_twice_is_refused(tmp_path: Path, name: str) -> None:
    out = io.BytesIO()
    if name == "a.zip":
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("b/a.jpg", PHOTO)
            archive.writestr("./b/a.jpg", FILES["sub/b.png"])
    else:
        out.write(tar_bytes({"b/a.jpg": PHOTO, "./b/a.jpg": FILES["sub/b.png"]}))
    why = refused(tmp_path, name, out.getvalue())
    assert why == "holds b/a.jpg twice; make the archive again, with each file once"


# Zip archives


def test_a_photo_that_would_fill_the_memory_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert places.MAX_SIZE == 256 * 1024 * 1024
    monkeypatch.setattr(places, "MAX_SIZE", 100_000)
    bomb = {"bomb.jpg": bytes(100_001), "a.jpg": PHOTO}
    why = "is too large: 100,001 bytes; at most 100,000 are read"
    assert skipped(tmp_path, "a.zip", zip_bytes(bomb, zipfile.ZIP_DEFLATED)) == {"bomb.jpg": why}
    packed = in_directory(zip_bytes({"b.jpg": PHOTO}), 20, "<L", 0x7FFFFFFF)
    (why,) = skipped(tmp_path, "b.zip", packed).values()  # of a small photo, but a large entry
    assert why == "is damaged: it is cut short"
    (why,) = skipped(tmp_path, "a.tar", tar_bytes(bomb)).values()
    assert why.startswith("is too large: ")


def test_a_photo_that_is_larger_than_it_says_takes_no_memory(tmp_path: Path) -> None:
    large = zip_bytes({"a.jpg": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    path = write(tmp_path / "a.zip", in_directory(large, 24, "<L", 10))
    photos = find_photos(path)
    tracemalloc.start()
    taken = take_all(photos)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken.skipped[0].reason == "is damaged: it has another size than the archive says"
    assert peak < 10_000_000  # decompressed, it would be five times that


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("size", [0, len(PHOTO) - 1, len(PHOTO) + 1])
def test_a_photo_of_another_size_than_it_says_is_skipped(
    tmp_path: Path, method: int, size: int
) -> None:
    lying = in_directory(zip_bytes({"a.jpg": PHOTO}, method), 24, "<L", size)
    why = "is damaged: it has another size than the archive says"
    assert skipped(tmp_path, "a.zip", lying) == {"a.jpg": why}


def test_a_damaged_photo_of_a_zip_is_skipped(tmp_path: Path) -> None:
    stored = zip_bytes({"a.jpg": PHOTO, "b.jpg": PHOTO})
    damaged = stored.replace(PHOTO, PHOTO[:-1] + b"?", 1)
    why = "is damaged: its checksum is wrong"
    assert skipped(tmp_path, "stored.zip", damaged) == {"a.jpg": why}
    deflated = bytearray(zip_bytes({"a.jpg": PHOTO}, zipfile.ZIP_DEFLATED))
    deflated[35:55] = b"\xff" * 20  # just behind the header and the name
    (why,) = skipped(tmp_path, "deflated.zip", bytes(deflated)).values()
    assert why.startswith("is damaged: it cannot be decompressed (")


def test_an_entry_that_is_not_where_the_directory_says_is_skipped(tmp_path: Path) -> None:
    whole = zip_bytes({"a.jpg": PHOTO, "b.jpg": PHOTO})
    elsewhere = in_directory(whole, 42, "<L", 7)
    assert skipped(tmp_path, "a.zip", elsewhere) == {
        "a.jpg": "is damaged: it is not where the archive says"
    }


def test_entries_that_overlap_are_skipped(tmp_path: Path) -> None:
    # As in bombs whose files are made of the same bytes: here, b.jpg begins inside of a.jpg.
    whole = zip_bytes({"a.jpg": PHOTO, "b.jpg": PHOTO})
    header = zip_bytes({"c": b"c"})[:32]
    inside = whole.replace(PHOTO, PHOTO[:99] + header + PHOTO[99 + len(header) :], 1)
    place = struct.pack("<L", whole.index(b"PK\x03\x04", 9))  # of b.jpg, in the directory
    header_place = struct.pack("<L", inside.index(header))
    overlapping = inside.replace(place + b"b.jpg", header_place + b"b.jpg")
    assert skipped(tmp_path, "b.zip", overlapping) == {
        "a.jpg": "is damaged: it is cut short",
        "b.jpg": "is damaged: its checksum is wrong",
    }


def test_an_entry_without_a_name_is_left_out(tmp_path: Path) -> None:
    nameless = in_directory(zip_bytes({"a": b"a"}), 28, "<HH", 0, 1)
    content = in_directory(nameless, 46, "<B", 0)
    assert refused(tmp_path, "a.zip", content).startswith("holds no images (")


def test_a_zip_without_its_beginning_is_refused(tmp_path: Path) -> None:
    why = refused(tmp_path, "a.zip", zip_bytes()[100:])
    assert why == "is damaged: its beginning is missing; get the file again"


@pytest.mark.parametrize("flags", [0x1, 0x41, 0x2000])
def test_an_encrypted_zip_is_refused(tmp_path: Path, flags: int) -> None:
    encrypted = in_directory(zip_bytes({"a.jpg": PHOTO}), 8, "<H", flags)
    why = refused(tmp_path, "a.zip", encrypted)
    assert why == "a.jpg is encrypted; make the archive again, not encrypted"


@pytest.mark.parametrize(("method", "number"), [(zipfile.ZIP_BZIP2, 12), (zipfile.ZIP_LZMA, 14)])
def test_another_compression_is_refused(tmp_path: Path, method: int, number: int) -> None:
    why = refused(tmp_path, "a.zip", zip_bytes({"a.jpg": PHOTO}, method))
    assert why == (
        f"a.jpg is compressed by method {number}; make the archive again, stored or deflated"
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x05\x06",
        PHOTO,
        zip_bytes()[:-1],
        zip_bytes()[: len(zip_bytes()) // 2],
        in_directory(zip_bytes(), 0, "<L", 0),
        in_directory(zip_bytes(), 28, "<HH", 9, 60_000),  # lengths of the name and the extra field
    ],
)
def test_a_damaged_directory_is_refused(tmp_path: Path, content: bytes) -> None:
    why = refused(tmp_path, "a.zip", content)
    assert why.startswith("is not a zip archive, or is damaged (")
    assert why.endswith("); get the file again")


def test_links_in_a_zip_are_left_out_and_told(tmp_path: Path) -> None:
    out = io.BytesIO(zip_bytes({"a.jpg": PHOTO}))
    with zipfile.ZipFile(out, "a") as archive:
        for name, kind in ("link.jpg", 0o120777), ("device.jpg", 0o060644):
            info = zipfile.ZipInfo(name)
            info.external_attr = kind << 16
            archive.writestr(info, "/etc/passwd")
    path = write(tmp_path / "a.zip", out.getvalue())
    photos = find_photos(path)
    assert photos.names == ("a.jpg",)
    left_out = f"left out 2 entries of {path}: links, devices and sparse files are not read"
    assert left_out in photos.describe()


def test_a_zip_of_more_than_4_gb(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    far = 5 << 30
    with path.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.jpg", PHOTO)
        archive.start_dir = far  # where the next file goes; what lies between takes no room
        archive.writestr("b.png", FILES["sub/b.png"])
    with zipfile.ZipFile(path) as archive:
        assert archive.infolist()[1].header_offset == far
    photos = find_photos(path)
    assert photos.source.open("a.jpg").read() == PHOTO
    assert photos.source.open("b.png").read() == FILES["sub/b.png"]
    assert take_all(photos).used == 2


# Tar archives


def test_only_regular_files_of_a_tar_are_read(tmp_path: Path) -> None:
    out = io.BytesIO()
    kinds = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
    with tarfile.open(fileobj=out, mode="w") as archive:
        for number, kind in enumerate(kinds):
            info = tarfile.TarInfo(f"{number}.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("a.jpg")
        info.size = len(PHOTO)
        archive.addfile(info, io.BytesIO(PHOTO))
    path = write(tmp_path / "a.tar", out.getvalue())
    photos = find_photos(path)
    assert photos.names == ("a.jpg",)
    left_out = f"left out 5 entries of {path}: links, devices and sparse files are not read"
    assert left_out in photos.describe()
    assert take_all(photos).used == 1


@pytest.mark.parametrize(
    ("kind", "compress"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)]
)
def test_a_compressed_tar_is_refused(
    tmp_path: Path, kind: str, compress: Callable[[bytes], bytes]
) -> None:
    content = compress(tar_bytes())
    why = refused(tmp_path, "a.tar", content)
    assert why.startswith("is not a plain tar archive, or is damaged (")
    assert why.endswith("); get the file again, or unpack a .tar.gz")
    why = refused(tmp_path, f"a.tar.{kind}", content)
    assert why == (
        "is compressed as a whole, so that no photo can be read by itself; make it a .tar or a .zip"
    )


def test_a_tar_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    whole = tar_bytes({"a.jpg": PHOTO, "b.jpg": PHOTO}, tarfile.USTAR_FORMAT)
    size = 512 + len(PHOTO) + -len(PHOTO) % 512  # of one file with its header
    for length in 0, 100, 512, 600, size - 1, size + 100, size + 512, 2 * size - 1:
        why = refused(tmp_path, "a.tar", whole[:length])
        assert why.startswith(("is not a plain tar archive, or is damaged (", "is cut short: "))
    between_files = refused(tmp_path, "a.tar", whole[:size])
    assert between_files == "is cut short: it has no end mark; get the file again"
    assert find_photos(write(tmp_path / "a.tar", whole)).names == ("a.jpg", "b.jpg")


def test_a_tar_that_is_damaged_between_its_files_is_refused(tmp_path: Path) -> None:
    damaged = bytearray(tar_bytes({"a.jpg": PHOTO, "b.jpg": PHOTO}, tarfile.USTAR_FORMAT))
    damaged[512 + len(PHOTO) + -len(PHOTO) % 512 + 3] ^= 1  # in the name of the second file
    why = refused(tmp_path, "a.tar", bytes(damaged))
    assert why == "is damaged between its files; get the file again"


def test_joined_tars_are_refused(tmp_path: Path) -> None:
    why = refused(tmp_path, "a.tar", tar_bytes({"a.jpg": PHOTO}) + tar_bytes({"b.jpg": PHOTO}))
    assert why == (
        "holds more behind its end mark, or more than 8,388,608 bytes of padding; give single "
        "archives, not joined ones"
    )


def test_a_tar_with_large_blocks_is_single(tmp_path: Path) -> None:
    """As `tar -b 8192` fills it up."""
    path = write(tmp_path / "a.tar", tar_bytes({"a.jpg": PHOTO}).ljust(4 << 20, b"\0"))
    assert find_photos(path).names == ("a.jpg",)


def test_a_tar_that_is_replaced_while_it_is_read_ends_the_run(tmp_path: Path) -> None:
    """Names, sizes and times are the same, so that the headers are, too."""
    path = write(tmp_path / "a.tar", tar_bytes({"a.jpg": PHOTO, "b.jpg": PHOTO}))
    photos = find_photos(path)
    assert photos.source.open("a.jpg").read() == PHOTO
    other = tar_bytes({"a.jpg": PHOTO[::-1], "b.jpg": PHOTO[::-1]})
    (tmp_path / "new.tar").write_bytes(other)
    os.utime(tmp_path / "new.tar", ns=(1, 1))
    (tmp_path / "new.tar").replace(path)
    with pytest.raises(ChangedError, match="has changed"):
        photos.source.open("b.jpg")


# What the program zip and old programs on Windows store


def test_names_that_are_not_ascii_are_those_of_the_folder(tmp_path: Path) -> None:
    """On Unix, the program zip stores UTF-8 without the flag that says so."""
    name = "sub/é ü.jpg"
    path = _zip_with_raw_name(tmp_path / "a.zip", name.encode())
    assert find_photos(path).names == (name,)


def _zip_with_raw_name(path: Path, name: bytes) -> Path:
    """Write a zip whose one name has these bytes, and no flag for UTF-8."""
    stand_in = b"n" * len(name)
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo(stand_in.decode())
        info.create_system = 3
        archive.writestr(info, PHOTO)
    path.write_bytes(path.read_bytes().replace(stand_in, name))
    return path


def test_backslashes_of_windows_separate_folders(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("val\\a.jpg", "val\\.hidden.jpg", "__MACOSX\\b.jpg", "annotations\\m.png"):
            info = zipfile.ZipInfo(name)
            info.filename = name
            info.create_system = 0
            archive.writestr(info, PHOTO)
    photos = find_photos(path)
    assert photos.names == ("val/a.jpg",)
    assert dict(photos.left_out) == {"annotations": 1}


def test_a_sparse_file_of_a_tar_is_left_out(tmp_path: Path) -> None:
    archive = bytearray(tar_bytes({"a.jpg": PHOTO, "b.jpg": PHOTO}, tarfile.GNU_FORMAT))
    archive[156] = ord("S")  # the kind of the first file
    archive[148:156] = b"%06o\0 " % (sum(archive[:148]) + sum(archive[156:512]) + 8 * 32)
    photos = find_photos(write(tmp_path / "a.tar", bytes(archive)))
    assert photos.names == ("b.jpg",)
    assert len(photos.remarks) == 1


# Files that are not archives


def test_a_pipe_in_place_of_an_archive_is_refused(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system makes no pipes")
    for name in "a.zip", "a.tar":
        os.mkfifo(tmp_path / name)
        error = error_of(find_photos, tmp_path / name)
        assert error == f"{tmp_path}/{name}: cannot be read: it is not a regular file"


def test_a_pipe_that_takes_the_place_of_an_archive_is_not_read(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system makes no pipes")
    path = write(tmp_path / "a.tar", tar_bytes())
    photos = find_photos(path)
    path.unlink()
    os.mkfifo(path)
    writing = os.open(path, os.O_RDWR)  # so that opening the pipe to read it would not wait
    try:
        assert "a.jpg: cannot be read: it is not a regular file" in error_of(take_all, photos)
    finally:
        os.close(writing)


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("simplecache::s3://me:word@b/x.zip?key", "simplecache::s3://b/x.zip: is not one address"),
        ("zip://a::http://me:word@h/x.zip", "zip://a::http://h/x.zip: is not one address"),
        ("://x", "://x: is not one address"),
        ("ssh://me:word@h/x.zip", "ssh://h/x.zip: ssh:// is not read; give a path or an address"),
        ("reference://x.zip", "reference://x.zip: reference:// is not read; give a path or"),
        ("ftp://h/x.zip?key", "ftp://h/x.zip?key: ftp:// is not read"),
        ("http://me:word@h/photos/?key", "http://h/photos/: is not a .zip or a .tar, and a web"),
        ("FILE:///none/x.zip", "/none/x.zip: cannot be read: No such file or directory"),
    ],
)
def test_addresses_that_are_not_read(address: str, error: str) -> None:
    found = error_of(find_photos, address)
    assert found.startswith(error)
    assert "word" not in found


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.filesystem", fail)
    remote._file_system.cache_clear()  # noqa: SLF001
    for address, extra in (
        ("s3://b/a.zip", "s3"),
        ("gs://b/photos/", "gcs"),
        ("az://c/a.tar", "azure"),
        ("hf://datasets/a/b", "hf"),
        ("https://h/a.zip", "http"),
    ):
        error = error_of(find_photos, address)
        assert error == (
            f"{address.partition('//')[0]}// addresses need a package that is not installed: pip "
            f"install '.[{extra}]' in vggnorm's own folder"
        )
