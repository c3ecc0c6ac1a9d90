"""The program `vggnorm`: what holds for all of its commands."""

import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from vggnorm.errors import NotGuaranteedWarning, VggnormError
from vggnorm.report.printable import echo, printable
from vggnorm.run import signals
from vggnorm.run.progress import say
from vggnorm.run.startup import open_closed_streams
from vggnorm.version import __version__


class _Group(click.Group):
    """Turns an error that the user can fix into one line on stderr. Anything else is a bug."""

    def main(self, *args: Any, **extra: Any) -> Any:
        open_closed_streams()
        return super().main(*args, **extra)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _printable_usage():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with signals.raising(), _printable_usage(), _warnings_as_lines():
                return super().invoke(ctx)
        except VggnormError as error:
            raise click.ClickException(printable(error)) from error
        except signals.Interrupted as interrupted:
            echo(str(interrupted), err=True)
            ctx.exit(interrupted.status)


@contextmanager
def _printable_usage() -> Iterator[None]:
    """Make click's messages about wrong arguments, which it quotes, safe to print."""
    try:
        yield
    except click.ClickException as error:
        vars(error)["message"] = printable(error.message)  # the attribute is declared as final
        raise


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Show what the system does not guarantee as a line of the program's own."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", NotGuaranteedWarning)
        show = warnings.showwarning

        def show_as_line(
            message: Warning | str, category: type[Warning], *where: Any, **more: Any
        ) -> None:
            if issubclass(category, NotGuaranteedWarning):
                say(f"warning: {message}")
            else:
                show(message, category, *where, **more)

        warnings.showwarning = show_as_line
        yield


@click.group(
    cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "show_default": True}
)
@click.version_option(__version__, message="vggnorm %(version)s")
def main() -> None:
    """Rescale a trained VGG network so that every convolutional filter has mean activation 1.

    First measure the means over a folder of photos. Then normalize the network with them:

    \b
    vggnorm compute-means --data coco/
    vggnorm normalize --means means.npy -o vgg16_norm.h5
    """  # noqa: D301  click's mark for lines that are not to be wrapped
    # The program draws into files only. Another one's setting may name what is not installed.
    os.environ["MPLBACKEND"] = "agg"
    warnings.filterwarnings("ignore", module="PIL")  # the summary names each damaged photo
    if isinstance(sys.stdout, io.TextIOWrapper):
        # The name of a file may have characters that the terminal's encoding does not have.
        sys.stdout.reconfigure(errors="backslashreplace")
