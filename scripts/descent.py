"""Minimize a loss over the pixels of a picture, which stay within 0..255."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

WHITE = 255.0
Picture = NDArray[np.float64]  # (height, width, 3), RGB 0..255
Report = Callable[[int, Picture], None]  # called after each step with its number and the picture


class Minimizable(Protocol):
    """A loss that can be minimized, as `gatys_loss.Objective` is."""

    def value_and_gradient(self, picture: Picture) -> tuple[float, NDArray[np.float32]]:
        """Return the loss of a picture and its derivative by every pixel."""
        ...


def minimize_lbfgs(
    objective: Minimizable, start: Picture, iterations: int, report: Report
) -> Picture:
    """Minimize with scipy's L-BFGS-B, as the paper does, but with pixels bounded to 0..255.

    Returns:
        The last picture. The run ends before `iterations` if no step makes the loss smaller.
    """
    from scipy.optimize import minimize

    done = 0

    def value_and_gradient(pixels: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, gradient = objective.value_and_gradient(pixels.reshape(start.shape))
        return value, gradient.ravel().astype(np.float64)

    def count(pixels: NDArray[np.float64]) -> None:
        nonlocal done
        done += 1
        report(done, pixels.reshape(start.shape))

    result = minimize(
        value_and_gradient,
        start.ravel(),
        method="L-BFGS-B",
        jac=True,
        bounds=[(0.0, WHITE)] * start.size,
        callback=count,
        # The derivative by one of a hundred thousand pixels is tiny, so no tolerance on it may end
        # the run.
        options={"maxiter": iterations, "maxfun": 25 * iterations, "ftol": 0.0, "gtol": 0.0},
    )
    picture: Picture = result.x.reshape(start.shape)
    return picture


def minimize_adam(
    objective: Minimizable, start: Picture, iterations: int, report: Report, learning_rate: float
) -> Picture:
    """Minimize with Adam; a step is up to about `learning_rate`, and pixels stay in 0..255."""
    import keras

    picture = keras.Variable(start, dtype="float32")
    optimizer = keras.optimizers.Adam(learning_rate)
    for iteration in range(1, iterations + 1):
        _, gradient = objective.value_and_gradient(picture.numpy())
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [picture])
        picture.assign(keras.ops.clip(picture, 0, WHITE))
        report(iteration, picture.numpy())
    result: Picture = picture.numpy().astype(np.float64)
    return result
