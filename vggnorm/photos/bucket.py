"""Folders in buckets: which files they hold, and where."""

from collections.abc import Hashable
from dataclasses import dataclass

from vggnorm.errors import PhotoError
from vggnorm.photos import remote
from vggnorm.photos.addresses import Address
from vggnorm.photos.places import Place, Places, visible_name
from vggnorm.photos.source import ChangedError

WITHOUT_LISTS = ("http", "https")  # protocols that have no folders


@dataclass(frozen=True, slots=True)
class WholeFile(Place):
    """A photo that is a file of its own in a bucket.

    Attributes:
        address: where it is.
    """

    address: Address

    def read(self) -> bytes:
        """Fetch the file, and check its size."""
        self.require_moderate_size(self.size)
        if not self.size:
            return b""
        try:
            # One byte more than it had tells whether it has grown.
            content = remote.fetch(self.address, 0, self.size + 1)
        except PermissionError:
            raise
        except OSError:
            self._require_size()  # it may be gone, or may have been emptied
            raise
        if len(content) != self.size:
            raise ChangedError("has changed")
        return content

    def read_start(self, size: int) -> bytes:
        """Fetch the first bytes of the file."""
        return remote.fetch(self.address, 0, min(size, self.size))

    def _require_size(self) -> None:
        try:
            now = remote.stat(self.address)
        except FileNotFoundError as error:
            raise ChangedError("is gone") from error
        if now.size != self.size:
            raise ChangedError("has changed")


class Bucket(Places):
    """A folder in a bucket, whose files are photos."""

    def __init__(self, address: Address) -> None:
        """List the folder.

        Raises:
            PhotoError: it cannot be listed.
        """
        root = f"{str(address).rstrip('/')}/"
        super().__init__(
            _list_places(address), label=str(address), root=root, above=root, is_remote=True
        )
        self._address = address

    def identity(self) -> Hashable:
        """Ask whether the folder is there and may be listed: if not, no photo is to blame.

        Raises:
            PhotoError: it may not be listed, or cannot be.
        """
        try:
            remote.require_folder(self._address)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise PhotoError(f"{self._address}: cannot be listed: {error.strerror}") from error
        return self._address


def _list_places(address: Address) -> list[Place]:
    if address.protocol in WITHOUT_LISTS:
        raise PhotoError(
            f"{address}: is not a .zip or a .tar, and a web server does not list the files of a "
            "folder; give the address of an archive"
        )
    try:
        files = remote.list_files(address)
    except OSError as error:
        raise PhotoError(f"{address}: cannot be listed: {error.strerror}") from error
    places: list[Place] = []
    for path, (url, state) in files.items():
        name = visible_name(path)
        if name is not None:
            places.append(WholeFile(name, state.size, state.version, Address(url)))
    return places
