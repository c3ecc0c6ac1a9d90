"""Addresses of files on other machines, and how they are shown without what is secret in them."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from vggnorm.errors import PhotoError

# Protocol -> the extra of this package that installs what fetches files by it.
PROTOCOLS = {"http": "http", "https": "http", "s3": "s3", "gs": "gcs", "az": "azure", "hf": "hf"}

SCHEME = "([A-Za-z][A-Za-z0-9+.-]*)://"


@dataclass(frozen=True, repr=False)
class Address:
    """Where a file or a folder on another machine is.

    As text, it lacks the user, the password and the query. They may be credentials.

    Attributes:
        url: in full.
    """

    url: str

    @property
    def protocol(self) -> str:
        """One of `PROTOCOLS`."""
        return self.url.partition("://")[0]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return str(self).rstrip("/").rpartition("/")[2]

    def __str__(self) -> str:
        protocol, _, rest = self.url.partition("://")
        if protocol in {"http", "https"}:  # in the key of a bucket, these are characters like any
            rest = re.split("[?#]", rest, maxsplit=1)[0]
        host, slash, path = rest.partition("/")
        return f"{protocol}://{host.rpartition('@')[2]}{slash}{path}"

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"

    def __reduce__(self) -> tuple[type["Address"], tuple[str]]:
        """Pickle an address, unless it holds what may be a credential.

        Raises:
            PhotoError: it holds a user, a password or a query.
        """
        if self.url != str(self):
            raise PhotoError(
                f"{self}: the user, password or query in this address is not sent to other "
                "processes; give an address without them"
            )
        return Address, (self.url,)


# A file or a folder, on this machine or on another one.
Location = Path | Address


def parse_location(text: str | Path) -> Location:
    """Tell addresses from paths; `file://` addresses become paths.

    Raises:
        PhotoError: the address is of a protocol that is not allowed, or is a chain of addresses.
    """
    scheme = re.match(SCHEME, str(text))
    if isinstance(text, Path) or "://" not in text:
        return Path(text)
    if scheme is None or "::" in text:
        raise PhotoError(
            f"{without_secrets(text)}: is not one address; give that of a folder, a .zip or a .tar"
        )
    protocol = scheme[1].lower()
    if protocol == "file":
        return _path_of(text[scheme.end() :])
    if protocol in {"http", "https"}:
        _require_host(text)
    address = Address(f"{protocol}{text[scheme.end(1) :]}")
    if protocol not in PROTOCOLS:
        raise PhotoError(
            f"{address}: {protocol}:// is not read; give a path or an address that begins with one "
            f"of {', '.join(f'{known}://' for known in PROTOCOLS)}"
        )
    return address


def _path_of(rest: str) -> Path:
    """Give the path behind `file://`, where nothing but this machine may stand before it."""
    path = rest.removeprefix("localhost")
    if not path.startswith("/"):
        raise PhotoError(
            f"file://{rest}: names another machine; give the whole path, as in file:///data/coco"
        )
    return Path(url2pathname(path))  # on Windows, `/C:/data` is `C:\data`


def _require_host(text: str) -> None:
    """Refuse an address whose host cannot be told, without quoting what may be a password."""
    try:
        parts = urlsplit(text)
        is_sound = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_sound = False
    if not is_sound:
        raise PhotoError(
            "the host of an http address cannot be told; in a user or a password, write / as %2F "
            "and @ as %40"
        )


def without_secrets(text: str) -> str:
    """Leave out of a text what may be a credential in the addresses that it quotes."""
    text = re.sub(r"\?\S*", "", text)
    return re.sub(r"//[^/\s]*@", "//", text)
