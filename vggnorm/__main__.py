"""`python -m vggnorm`."""

from vggnorm.cli import main

main(prog_name="vggnorm")
