"""The command line: one module a command. A command is a few lines that call the library.

Keras takes seconds to import, so each command imports what needs it when it runs.

- `compute_means.py`: `vggnorm compute-means`
- `convert.py`: `vggnorm convert`
- `group.py`: what all commands share: errors as one line, signals, usage
- `identify.py`: `vggnorm identify`
- `inspect.py`: `vggnorm inspect`
- `merge_means.py`: `vggnorm merge-means`
- `normalize.py`: `vggnorm normalize`
- `options.py`: options that several commands take
- `packaged.py`: what `vggnorm normalize` says and refuses without means
- `plot.py`: `vggnorm plot`
- `verify.py`: `vggnorm verify`
"""

from vggnorm.cli import (
    compute_means,
    convert,
    identify,
    inspect,
    merge_means,
    normalize,
    plot,
    verify,
)
from vggnorm.cli.group import main as main

for module in (compute_means, merge_means, normalize, convert, verify, identify, inspect, plot):
    main.add_command(module.command)
