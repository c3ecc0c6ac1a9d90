"""Load a file of weights into the encoder of pystiche, with a torchvision of today."""

import importlib
from pathlib import Path
from typing import Any

from programs import read_tensors

NETWORKS = [f"vgg{depth}{end}" for depth in (11, 13, 16, 19) for end in ("", "_bn")]


def load_encoder(path: str, network: str, framework: str, **options: Any) -> Any:
    """Make a multi-layer encoder and load a file of layout `torchvision` into it.

    Args:
        path: the file.
        network: `vgg16` or `vgg19`.
        framework: what pystiche calls the convention, `torch` or `caffe`.
        options: more arguments for the encoder.
    """
    # pystiche 1.0.1 reads two tables of addresses, which torchvision 0.28 does not have any more.
    # Nothing is downloaded here, so that the names in them suffice.
    for module, names in (("alexnet", ["alexnet"]), ("vgg", NETWORKS)):
        place: Any = importlib.import_module(f"torchvision.models.{module}")
        place.model_urls = dict.fromkeys(names, "")
    from pystiche import enc

    options = {"internal_preprocessing": False} | options
    make = getattr(enc, f"{network}_multi_layer_encoder")
    encoder = make(pretrained=False, framework=framework, **options)
    encoder.load_state_dict(read_tensors(Path(path)), strict=True, framework=framework)
    return encoder
