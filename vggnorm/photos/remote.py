"""Files on other machines, read by fsspec."""

import errno
import time
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, TypeVar

import fsspec

from vggnorm.errors import PhotoError
from vggnorm.photos.addresses import PROTOCOLS, Address, without_secrets

T = TypeVar("T")

SILENCE = 20  # seconds without an answer, after which a try has failed

TRIES = 5
PAUSE = 0.5  # seconds before the second try; twice as many before each further one

# Answers of HTTP that another try will not change, with those of the 400s that it may.
REFUSALS = range(400, 500)
WORTH_TRYING = frozenset({408, 425, 429})
NOT_FOUND, FORBIDDEN = (404, 410), (401, 403)


class _RefusedError(Exception):
    """Another try would not help; the text says why."""


class RemoteState(NamedTuple):
    """What tells one state of a file from another.

    Attributes:
        size: in bytes.
        version: the server's tag, or the time of the last change; empty if it tells none.
    """

    size: int
    version: str


def fetch(address: Address, start: int = 0, stop: int | None = None) -> bytes:
    """Fetch a file, or its bytes from `start` to before `stop`; fewer if it ends before.

    Raises:
        FileNotFoundError: there is no such file.
        PermissionError: the server does not let it be read.
        OSError: it cannot be fetched, after `TRIES` tries; `strerror` says why.
        PhotoError: what fetches files of this protocol is not installed.
    """
    if stop is None:
        return _trying(address, lambda system: bytes(system.cat_file(address.url)))
    if start >= stop:
        return b""

    def fetch_range(system: Any) -> bytes:
        # By keyword: the second parameter of s3fs is another one.
        content = bytes(system.cat_file(address.url, start=start, end=stop))
        if len(content) > stop - start:
            raise _RefusedError("the server sends all of the file for a part of it")
        return content

    return _trying(address, fetch_range)


def stat(address: Address) -> RemoteState:
    """Ask for the size and the version of a file.

    Raises:
        FileNotFoundError, PermissionError, OSError, PhotoError: see `fetch`.
    """
    return _trying(address, lambda system: _state_of(_info(system, address)))


def require_ranges(address: Address, size: int) -> None:
    """Ask for the last byte of a file, and refuse a server that sends all of the file instead.

    Raises:
        FileNotFoundError, PermissionError, OSError, PhotoError: see `fetch`.
    """

    def read_last(system: Any) -> bytes:
        # Unlike `cat_file`, a file of fsspec looks at the answer before it reads all of it.
        with system.open(address.url, "rb", block_size=1, cache_type="none", size=size) as file:
            file.seek(max(0, size - 1))
            try:
                return bytes(file.read(1))
            except ValueError:
                raise _RefusedError("the server sends no parts of a file") from None

    _trying(address, read_last)


def list_files(address: Address) -> dict[str, tuple[str, RemoteState]]:
    """List all files of a bucket's folder.

    Returns:
        Path below the folder -> the file's URL and state.

    Raises:
        FileNotFoundError, PermissionError, OSError, PhotoError: see `fetch`.
    """

    def find(system: Any) -> dict[str, tuple[str, RemoteState]]:
        found = system.find(address.url, detail=True)
        root = f"{str(address).partition('://')[2].rstrip('/')}/"
        files = {}
        for path, info in found.items():
            if not path.startswith(root):
                raise _RefusedError("it is not a folder")
            url = f"{address.protocol}://{path}"
            files[path.removeprefix(root)] = url, _state_of(info)
        return files

    return _trying(address, find)


def require_folder(address: Address) -> None:
    """Ask whether a bucket's folder is there.

    Raises:
        FileNotFoundError, PermissionError, OSError, PhotoError: see `fetch`.
    """
    _trying(address, lambda system: _info(system, address))


def _info(system: Any, address: Address) -> dict[str, Any]:
    system.invalidate_cache()  # some protocols' packages remember, whatever they are told
    return dict(system.info(address.url))


def _state_of(info: dict[str, Any]) -> RemoteState:
    """Read what fsspec tells about a file. Each protocol has a field of its own for the version.

    Raises:
        _RefusedError: the server does not tell the size, or tells that it sends no parts of a file.
    """
    if info.get("size") is None or info.get("partial") is False:
        raise _RefusedError("the server does not tell its size or sends no parts of it")
    fields = ("ETag", "etag", "blob_id", "Last-Modified", "LastModified", "last_modified", "mtime")
    versions = [str(info[field]) for field in fields if info.get(field)]
    return RemoteState(int(info["size"]), versions[0] if versions else "")


@cache
def _file_system(protocol: str) -> Any:
    """Make what fetches files by a protocol. All threads may use it."""
    try:
        return fsspec.filesystem(protocol, use_listings_cache=False, **_options(protocol))
    except ImportError as error:
        extra = PROTOCOLS[protocol]
        raise PhotoError(
            f"{protocol}:// addresses need a package that is not installed: "
            f"pip install '.[{extra}]' in vggnorm's own folder"
        ) from error


def _options(protocol: str) -> dict[str, Any]:
    """Give what keeps a server that falls silent from holding a run for long."""
    if protocol in {"http", "https"}:
        import aiohttp  # noqa: PLC0415  an extra

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=SILENCE, sock_read=SILENCE)
        return {"client_kwargs": {"timeout": timeout}}
    if protocol == "s3":
        return {"config_kwargs": {"connect_timeout": SILENCE, "read_timeout": SILENCE}}
    return {}


def _trying(address: Address, call: Callable[[Any], T]) -> T:
    """Call several times, until it succeeds or is refused for good."""
    system = _file_system(address.protocol)
    why = ""
    for number in range(TRIES):
        if number:
            time.sleep(PAUSE * 2 ** (number - 1))
        try:
            return call(system)
        except (AttributeError, NameError, TypeError):  # a bug, not an answer
            raise
        except Exception as error:  # every protocol's package has errors of its own
            why = _explain(_cause(error))
    # None: the text of the error itself may hold the query of the address.
    raise OSError(errno.EIO, f"{why} ({TRIES} tries)") from None


def _cause(error: BaseException) -> BaseException:
    """Give what went wrong where fsspec says of it that the file was not found, whatever it was."""
    is_from_http = isinstance(error, FileNotFoundError) and error.__cause__ is not None
    return error.__cause__ or error if is_from_http else error


def _explain(error: BaseException) -> str:
    """Say in one line what went wrong, without credentials.

    Raises:
        FileNotFoundError, PermissionError, OSError: another try would not help.
    """
    status = _status(error)
    if isinstance(error, FileNotFoundError) or status in NOT_FOUND:
        raise FileNotFoundError(errno.ENOENT, "there is no such file") from None
    if isinstance(error, PermissionError) or status in FORBIDDEN:
        raise PermissionError(errno.EACCES, "the server does not permit it to be read") from None
    if isinstance(error, _RefusedError):
        raise OSError(errno.EIO, str(error)) from None
    if status is None:
        return _first_line(error)
    if status in REFUSALS and status not in WORTH_TRYING:
        raise OSError(errno.EIO, f"the server answers {status}") from None
    return f"the server answers {status}"


def _status(error: BaseException) -> int | None:
    """Give the status of HTTP that an error tells of."""
    for field in ("status", "code", "status_code"):
        status = getattr(error, field, None)
        if isinstance(status, int) and status in range(300, 600):
            return status
    return None


def _first_line(error: BaseException) -> str:
    """Give the first line of an error's text, without queries, users and passwords."""
    text = getattr(error, "strerror", None) or str(error)
    line = str(text).strip().partition("\n")[0].rstrip(":")
    return without_secrets(line) or type(error).__name__
