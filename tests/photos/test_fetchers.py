"""Files are fetched by threads that nobody has to wait for."""

import io
import subprocess
import sys
from pathlib import Path
from threading import Event

import pytest

from vggnorm.photos.fetchers import Fetchers


def test_every_file_comes_and_errors_are_raised_where_it_is_wanted() -> None:
    def open_file(name: str) -> io.BytesIO:
        if name == "bad":
            raise FileNotFoundError(name)
        return io.BytesIO(name.encode())

    fetchers = Fetchers(2, open_file)
    names = [str(number) for number in range(20)]
    fetched = [fetchers.fetch(name) for name in names]
    assert [file.result().read().decode() for file in fetched] == names
    with pytest.raises(FileNotFoundError, match="bad"):
        fetchers.fetch("bad").result()
    assert fetchers.fetch("after").result().read() == b"after"
    fetchers.close()
    with pytest.raises(RuntimeError, match="no files are fetched any more"):
        fetchers.fetch("late")


def test_closing_gives_up_what_runs_and_what_waits() -> None:
    started, answer = Event(), Event()

    def open_file(_name: str) -> io.BytesIO:
        started.set()
        answer.wait()
        return io.BytesIO()

    fetchers = Fetchers(1, open_file)
    running, waiting = fetchers.fetch("running"), fetchers.fetch("waiting")
    started.wait()
    fetchers.close()  # it would not come back if it waited for the answer
    assert waiting.cancelled()
    with pytest.raises(TimeoutError, match="not waited for"):
        running.result()
    answer.set()


SILENT = """
import sys
from threading import Event
from vggnorm.photos import reader
from vggnorm.photos.finding import find_photos
from vggnorm.photos.folder import Folder
from vggnorm.photos.geometry import Geometry

reader.TICK = 0.01
Folder.is_remote = True
Folder.open = lambda self, name: Event().wait()  # the server never answers
batches = reader.PhotoReader(find_photos(sys.argv[1]), Geometry(32)).batches(4)
assert not len(next(batches).pixels)  # the caller is asked whether to go on
batches.close()
print("closed")
"""


def test_a_program_ends_although_a_server_is_silent(photo_folder: Path) -> None:
    # Where it would wait for the server, it would never end.
    done = subprocess.run(
        [sys.executable, "-c", SILENT, photo_folder],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "closed\n", "")
