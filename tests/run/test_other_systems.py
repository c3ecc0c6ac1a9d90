"""The program does its work without what only some systems have.

Windows is not at hand. So a process of its own loses what CPython lacks there, after the libraries
have been imported, which choose their ways by the name of the system.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from vggnorm.cli import main
from vggnorm.files.formats import load_means
from vggnorm.photos.addresses import parse_location

NOT_ON_WINDOWS = {
    "sys.modules": "fcntl grp pwd resource termios tty pty syslog readline curses posix",
    "os": "O_NOFOLLOW O_DIRECTORY O_NONBLOCK O_CLOEXEC O_SYNC O_DSYNC O_NOCTTY fork forkpty "
    "register_at_fork posix_spawn sched_getaffinity sched_setaffinity geteuid getuid getegid "
    "getgid getgroups getpgid getpgrp killpg setsid statvfs fstatvfs posix_fallocate "
    "posix_fadvise pread pwrite preadv sendfile fchmod fchown chown lchown fchdir mkfifo mknod "
    "uname getloadavg sysconf pathconf nice sync fdatasync getxattr setxattr lockf openpty",
    "signal": "SIGHUP SIGKILL SIGPIPE SIGALRM SIGUSR1 SIGUSR2 SIGQUIT SIGCHLD SIGWINCH alarm "
    "setitimer pthread_kill pthread_sigmask sigwait pause",
    "select": "poll epoll",
    "socket": "AF_UNIX",
    "time": "tzset clock_gettime",
}

LIBRARIES = "click filelock h5py keras matplotlib.pyplot numpy ml_dtypes PIL.Image "
LIBRARIES += "safetensors.numpy scipy.io tqdm asyncio tempfile"

# On Windows, only a file that is open for writing can be synced, and a folder cannot be opened.
PROGRAM = f"""
import importlib, io, os, select, signal, socket, sys, time
for name in {LIBRARIES!r}.split():
    importlib.import_module(name)
import filelock
filelock.FileLock = filelock.SoftFileLock  # in place of the lock of Windows
for place, names in {NOT_ON_WINDOWS!r}.items():
    for name in names.split():
        if place == "sys.modules":
            sys.modules[name] = None
        elif hasattr(globals()[place], name):
            delattr(globals()[place], name)
open_file = os.open
def open_no_folder(path, *rest, **more):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied")
    return open_file(path, *rest, **more)
os.open = open_no_folder
from vggnorm.cli import main
main(sys.argv[1:], prog_name="vggnorm")
"""


def run_without_what_windows_lacks(*arguments: str | Path) -> str:
    """Run a command; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_the_simulation_takes_something_away() -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{PROGRAM.partition('from vggnorm')[0]}\nimport fcntl"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ModuleNotFoundError: import of fcntl halted" in done.stderr


def test_every_command_starts_without_what_windows_lacks() -> None:
    # One process for all of them: the libraries take seconds to import.
    commands = [[], *([name] for name in main.commands)]
    ending = 'main(sys.argv[1:], prog_name="vggnorm")\n'
    assert PROGRAM.endswith(ending)
    program = PROGRAM.removesuffix(ending) + (
        f"for command in {commands!r}:\n"
        "    main([*command, '--help'], prog_name='vggnorm', standalone_mode=False)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for command in commands:
        assert f"Usage: {' '.join(['vggnorm', *command])} " in done.stdout


def test_the_work_is_done_without_what_windows_lacks(
    photo_folder: Path, chain_file: Path, random_vgg16: Path, tmp_path: Path
) -> None:
    def run(*arguments: str | Path) -> str:
        return run_without_what_windows_lacks(*arguments)

    means, normalized = tmp_path / "means.npy", tmp_path / "norm.h5"
    network = "--network", chain_file, "--preprocessing", "caffe"
    run("compute-means", "--data", photo_folder, *network, "--size", "32", "-o", means)
    assert load_means(means).image_count == 9
    run("normalize", "--means", means, "--network", chain_file, "-o", normalized)
    assert "9 used" in run("inspect", normalized)
    verified = run("verify", normalized, "--data", photo_folder, "--network", chain_file)
    assert verified.count("pass ") == 3
    run("plot", means, "-o", tmp_path / "figure.png")
    converted = tmp_path / "vgg.safetensors"
    run("convert", random_vgg16, "--preprocessing", "caffe", "-o", converted)
    written = {"means.npy", "norm.h5", "figure.png", "vgg.safetensors"}
    assert {path.name for path in tmp_path.iterdir()} == written


def test_signals_that_exist_are_still_taken() -> None:
    code = (
        "import signal; del signal.SIGHUP; from vggnorm.run.signals import ENDING; print(*ENDING)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(int(number)) for number in (2, 15)]


@pytest.mark.parametrize("text", [r"C:\photos\coco", "C:/photos/coco", r"\\server\share\photos"])
def test_a_path_of_windows_is_a_path_and_no_address(text: str) -> None:
    assert parse_location(text) == Path(text)
