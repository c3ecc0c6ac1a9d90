"""Networks with models inside, and sequential ones, from one command to the next."""

from pathlib import Path

import keras
import pytest
from command_line import run
from nests import NESTS, settle


def transfer_that_prepares() -> keras.Model:
    """The transfer model behind operations that prepare the photos."""
    model = NESTS["transfer"]()
    photos = keras.Input(model.input_shape[1:])
    return keras.Model(photos, model(photos[..., ::-1] - 110.0), name="prepares")


MADE = {**NESTS, "transfer_that_prepares": transfer_that_prepares}


@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, ()) for name in MADE), ("transfer_that_prepares", ("--precision", "bfloat16"))],
)
def test_every_command_takes_it(
    name: str, options: tuple[str, ...], photo_folder: Path, tmp_path: Path
) -> None:
    keras.utils.set_random_seed(0)
    original, figure = tmp_path / "original.keras", tmp_path / "figure.png"
    settle(MADE[name]()).save(original)
    network = "--network", original
    data = "--data", photo_folder
    commands: list[tuple[str | Path, ...]] = [
        ("compute-means", *network, *data, "--preprocessing", "none", *options),
        ("normalize", *network, "--means", "means.npy", "-o", "chain_norm.h5"),
        ("verify", "chain_norm.h5", *network, *data),
        ("inspect", "chain_norm.h5"),
        ("inspect", original),
        ("identify", "chain_norm.h5", "--original", original, "--means", "means.npy"),
        ("plot", "means.npy", "-o", figure),
    ]
    for command in commands:
        result = run(*command)
        assert result.exit_code == 0, (command, result.output)
