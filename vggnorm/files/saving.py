"""Writing the weights of a VGG for any program: container, layout, convention and type."""

from dataclasses import dataclass, replace
from pathlib import Path

from vggnorm.errors import OutputError
from vggnorm.files.conversion import (
    Say,
    cut_behind,
    in_convention,
    in_type,
    with_classifier_as_wanted,
)
from vggnorm.files.layouts import LAYOUTS, Layout
from vggnorm.files.vgg_weights import TakenAs, VggWeights
from vggnorm.files.weights_file import WeightsFile
from vggnorm.files.writing import check_weights_output, format_of, write_weights

DEFAULT_LAYOUTS = {
    "h5": "keras",
    "safetensors": "torchvision",
    "pth": "torchvision",
    "npz": "list",
    "mat": "matconvnet",
}

# Formats that hold one layout, and the layout that no other format holds.
OF_ONE_LAYOUT = {"h5": "keras", "mat": "matconvnet"}


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        layout: the layout.
        convention: how the network in the file takes photos; `adain` if a 1x1 convolution in the
            file takes RGB from 0 to 1.
    """

    layout: str
    convention: str


def save_weights(
    path: str | Path,
    weights: VggWeights | WeightsFile,
    *,
    layout: str | None = None,
    convention: str | None = None,
    preprocessing: str | None = None,
    file_format: str | None = None,
    up_to: str | None = None,
    with_classifier: bool = False,
    dtype: str | None = None,
    force: bool = False,
    say: Say | None = None,
) -> Written:
    """Write the weights of a VGG in the layout of some program.

    Args:
        path: the file. Means that travel with the weights go into a safetensors or `.h5` file, and
            beside any other, as `NAME.means.npy`.
        weights: an open file, see `vggnorm.open_weights`, or what `vggnorm.weights_of` gives of a
            Keras model.
        layout: a name of `vggnorm.files.layouts.LAYOUTS`; by default the format's usual one.
        convention: how the network in the file shall take photos, `caffe`, `rgb255` or `torch`, or
            `adain` for a layout with a 1x1 convolution in front; by default the layout's usual one.
        preprocessing: what the network in `weights` takes photos as, if neither a file nor its
            numbers tell: a name of `vggnorm.files.conventions.CONVENTIONS`.
        file_format: `h5`, `safetensors`, `pth`, `npz` or `mat`; by default what the name ends in.
        up_to: the last convolution to write, such as `conv4_1`; by default all.
        with_classifier: whether the dense layers are written: zeros where there are none.
        dtype: `float32`, `float16` or `bfloat16`; by default each array's own type. `.h5` is always
            float32.
        force: whether existing files may be replaced.
        say: is told what a user should know of the file.

    Raises:
        OutputError: the file exists and `force` is false, or cannot be written; or the options do
            not go together.
        NetworkError: a convention is to be changed that is not known; there is no such
            convolution; or the weights are damaged.
    """
    say = say or _say_nothing
    if isinstance(weights, WeightsFile):
        weights = weights.vgg
    if preprocessing is not None:
        weights = replace(weights, taken_as=TakenAs(preprocessing, "the caller"))
    path = Path(path)
    file_format = file_format or format_of(path)
    chosen = _choose_layout(layout, file_format, path)
    dtype = _choose_type(dtype, file_format, path)
    _require_convention_of_mat(chosen, convention, path)
    _require_place_for_normalization(weights, chosen, path)
    check_weights_output(path, file_format, force=force)
    weights = cut_behind(weights, up_to, path)
    weights = with_classifier_as_wanted(weights, chosen, path, wanted=with_classifier, say=say)
    exact = dtype is not None
    weights, written_as = in_convention(weights, chosen, convention, path, say, exact=exact)
    if file_format == "h5" and "float64" in weights.dtypes:
        say("float64 is rounded to float32, the type of .h5 files")
    weights = in_type(weights, dtype, say)
    _say_what_it_is_for(weights, chosen, say)
    write_weights(path, file_format, weights, chosen)
    return Written(chosen.name, written_as)


def _say_nothing(_: str) -> None:
    pass


def _choose_layout(name: str | None, file_format: str, path: Path) -> Layout:
    name = name or DEFAULT_LAYOUTS[file_format]
    if name not in LAYOUTS:
        raise OutputError(
            f"{path}: the layout {name!r} is not known; it must be one of {', '.join(LAYOUTS)}"
        )
    only = OF_ONE_LAYOUT.get(file_format)
    if only is not None and name != only:
        raise OutputError(
            f"{path}: a file of the format {file_format} has the layout {only}; leave out "
            "--layout, or give another ending"
        )
    if name == OF_ONE_LAYOUT["mat"] and file_format != "mat":
        raise OutputError(f"{path}: the layout {name} is that of .mat files; give such a name")
    return LAYOUTS[name]


def _choose_type(name: str | None, file_format: str, path: Path) -> str | None:
    if file_format != "h5":
        return name
    if name not in (None, "float32"):
        raise OutputError(
            f"{path}: a model of Keras in an .h5 file has float32 weights; leave out --dtype, or "
            "give another ending"
        )
    return "float32"


def _require_convention_of_mat(layout: Layout, convention: str | None, path: Path) -> None:
    """Refuse a convention that a .mat file contradicts by the mean colour in it."""
    if layout.name == OF_ONE_LAYOUT["mat"] and convention not in (None, layout.convention):
        raise OutputError(
            f"{path}: a .mat file says by its mean colour that its network takes photos as "
            f"{layout.convention}; leave out --convention, or give another format"
        )


def _require_place_for_normalization(weights: VggWeights, layout: Layout, path: Path) -> None:
    """Refuse a layout that would lose the batch normalization of a network."""
    if weights.has_batch_norm and layout.normalization is None:
        known = [name for name, other in LAYOUTS.items() if other.normalization is not None]
        raise OutputError(
            f"{path}: the network has batch normalization, and files of the layout {layout.name} "
            f"have none; give --layout as one of {', '.join(known)}"
        )


def _say_what_it_is_for(weights: VggWeights, layout: Layout, say: Say) -> None:
    """Say if the layout's own program does not take this network as it is."""
    is_other = layout.takes and layout.takes != weights.network
    if is_other or (not weights.is_whole and not layout.takes_parts):
        whole = "" if layout.takes_parts else ", whole"
        takes = (layout.takes or weights.network).upper()
        say(
            f"{layout.loads} itself loads {takes}{whole}, and this file is another part or "
            "network; load it into a network of these layers"
        )
    if layout.name == "torchvision" and weights.is_whole and weights.classes is None:
        say("torchvision wants the dense layers, too, unless strict=False; see --with-classifier")
    if weights.pooling == "avg":
        say("the network has average pooling; let the program that loads the file use it, too")
    if weights.means is not None and weights.means.recipe.padding == "reflect":
        say("the means were measured with reflection padding; give the network reflection padding")
