"""Archives of Keras, `.keras`: what they may hold, and how much."""

import json
import stat
import struct
import zipfile
from pathlib import Path
from typing import Any

import keras
import pytest
from small_files import rewritten, saved, small, write_archive
from zoo import NETWORKS, settle

from vggnorm.errors import NetworkError
from vggnorm.network.storage import load_network
from vggnorm.network.weights import weights_sha256


@pytest.fixture
def members(tmp_path: Path) -> dict[str, bytes]:
    """What is in a lawful archive."""
    with zipfile.ZipFile(saved(small(), tmp_path / "lawful.keras")) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/evil",
        "assets/../../evil",
        "assets/vocabulary.txt",
        "C:\\evil",
        "model.weights.npz",
        "config.json/",
    ],
)
def test_an_archive_holds_nothing_else(
    name: str, members: dict[str, bytes], tmp_path: Path
) -> None:
    path = write_archive(tmp_path / "evil.keras", [*members.items(), (name, b"evil")])
    with pytest.raises(
        NetworkError, match=r"evil\.keras: is refused: it holds '.*', and may hold metadata\.json"
    ):
        load_network(str(path))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["evil.keras", "lawful.keras"]


def test_a_link_in_an_archive_is_refused(members: dict[str, bytes], tmp_path: Path) -> None:
    entry = zipfile.ZipInfo("metadata.json")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    del members["metadata.json"]
    path = write_archive(tmp_path / "evil.keras", [(entry, b"/etc/passwd"), *members.items()])
    with pytest.raises(NetworkError, match=r"is refused: metadata\.json in it is a link"):
        load_network(str(path))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_for_two_files_is_refused(
    members: dict[str, bytes], tmp_path: Path
) -> None:
    path = write_archive(tmp_path / "evil.keras", [*members.items(), ("config.json", b"{}")])
    with pytest.raises(NetworkError, match=r"is refused: it holds config\.json twice"):
        load_network(str(path))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_cannot_swell(method: int, members: dict[str, bytes], tmp_path: Path) -> None:
    members["metadata.json"] = b" " * 10_000_000
    path = write_archive(tmp_path / "bomb.keras", list(members.items()), compression=method)
    assert path.stat().st_size < 100_000
    with pytest.raises(
        NetworkError, match="is refused: .* in it is encrypted or compressed, as Keras does not do"
    ):
        load_network(str(path))


@pytest.mark.parametrize(
    ("offset", "value", "text"),
    [
        (8, 1, "is refused: .* in it is encrypted or compressed"),
        (10, 99, "is refused: .* in it is encrypted or compressed"),
        (20, 0xFFFFFFF0, "is refused: .* in it claims another size than it has|cannot be loaded"),
        (24, 0xFFFFFFF0, "is refused: .* in it claims another size than it has"),
        (42, 0xFFFFFF00, "cannot be"),
    ],
    ids=["encrypted", "unknown method", "compressed size", "size", "place"],
)
def test_false_claims_in_the_directory_of_an_archive(
    offset: int, value: int, text: str, members: dict[str, bytes], tmp_path: Path
) -> None:
    path = write_archive(tmp_path / "evil.keras", list(members.items()))
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")  # of the last file in the archive
    struct.pack_into("<H" if value < 100 else "<I", content, entry + offset, value)
    path.write_bytes(content)
    with pytest.raises(NetworkError, match=rf"evil\.keras: ({text})"):
        load_network(str(path))


def test_the_largest_configuration_is_limited(members: dict[str, bytes], tmp_path: Path) -> None:
    members["config.json"] = b" " * (1 << 22) + members["config.json"]
    path = write_archive(tmp_path / "large.keras", list(members.items()))
    with pytest.raises(NetworkError, match="its configuration has more than 4,194,304 bytes"):
        load_network(str(path))


@pytest.mark.parametrize("missing", ["config.json", "model.weights.h5"])
def test_an_archive_without_its_parts_is_refused(
    missing: str, members: dict[str, bytes], tmp_path: Path
) -> None:
    del members[missing]
    with pytest.raises(
        NetworkError, match=rf"part\.keras: cannot be loaded as a Keras model: .*{missing}"
    ):
        load_network(str(write_archive(tmp_path / "part.keras", list(members.items()))))


# The configuration in it


@pytest.mark.parametrize("depth", [900, 100_000])
def test_a_configuration_nested_too_deep_is_refused(
    depth: int, members: dict[str, bytes], tmp_path: Path
) -> None:
    config = json.loads(members["config.json"])
    config["config"]["layers"][1]["config"]["deep"] = "?"
    text = json.dumps(config).replace('"?"', "[" * depth + "]" * depth)
    members["config.json"] = text.encode()
    with pytest.raises(NetworkError, match=r"deep\.keras: "):
        load_network(str(write_archive(tmp_path / "deep.keras", list(members.items()))))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("filters", [1 << 20, 1 << 40])
def test_a_network_larger_than_its_file_is_not_built(
    filters: int, suffix: str, tmp_path: Path
) -> None:
    def change(config: Any) -> None:
        config["config"]["layers"][1]["config"]["filters"] = filters

    path = rewritten(saved(small(), tmp_path / f"huge{suffix}"), change)
    needed = f"{4 * 28 * filters:,}"
    with pytest.raises(
        NetworkError,
        match=rf"describes a network with {needed} bytes of weights, but does not hold",
    ):
        load_network(str(path))


# Lawful files


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("name", NETWORKS)
def test_files_of_keras_are_loaded_as_by_keras(name: str, suffix: str, tmp_path: Path) -> None:
    model = settle(NETWORKS[name]())
    path = saved(model, tmp_path / f"model{suffix}")
    loaded, expected = load_network(str(path)), keras.models.load_model(path, compile=False)
    assert type(loaded) is type(expected)
    assert loaded.get_config() == expected.get_config()
    assert weights_sha256(loaded) == weights_sha256(model)
