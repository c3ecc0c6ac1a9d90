"""Threads that fetch files, and that nobody waits for when they are no longer needed.

Python waits for the threads of an executor before a program ends. One of them that waits for a
server which has fallen silent would hold up the end until its last try has failed.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import BinaryIO

PATIENCE = 1.0  # seconds in which fetches that run may end by themselves

Fetched = Future[BinaryIO]
Open = Callable[[str], BinaryIO]


class Fetchers:
    """Some threads, each of which fetches one file at a time."""

    def __init__(self, count: int, open_file: Open) -> None:
        """Start the threads.

        Args:
            count: of the threads.
            open_file: fetches a file of some name.
        """
        self._open = open_file
        self._waiting = SimpleQueue[tuple[str, Fetched] | None]()
        self._all: set[Fetched] = set()  # those that are not done
        self._is_closed = False
        self._threads = [
            Thread(target=self._work, name=f"fetch_{number}", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def fetch(self, name: str) -> Fetched:
        """Have a file fetched as soon as a thread is free.

        Raises:
            RuntimeError: the threads have been told to end.
        """
        if self._is_closed:
            raise RuntimeError("no files are fetched any more")
        fetched = Fetched()
        self._all.add(fetched)
        fetched.add_done_callback(self._all.discard)
        self._waiting.put((name, fetched))
        return fetched

    def close(self) -> None:
        """End. Whoever waits for a file that is still to come gets an error."""
        self._is_closed = True
        for fetched in tuple(self._all):
            fetched.cancel()  # unless a thread is at it
        for _ in self._threads:
            self._waiting.put(None)
        end = time.monotonic() + PATIENCE
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        for fetched in tuple(self._all):
            with suppress(InvalidStateError):  # it has come at this moment
                fetched.set_exception(TimeoutError("it was not waited for"))

    def _work(self) -> None:
        while (task := self._waiting.get()) is not None:
            name, fetched = task
            if not fetched.set_running_or_notify_cancel():
                continue
            try:
                outcome = self._open(name)
            except BaseException as error:  # it is raised where the file is wanted
                with suppress(InvalidStateError):
                    fetched.set_exception(error)
            else:
                with suppress(InvalidStateError):  # it is no longer waited for
                    fetched.set_result(outcome)
