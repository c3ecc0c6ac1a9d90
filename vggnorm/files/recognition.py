"""Telling by its bytes what a file is."""

import struct
import zipfile
from pathlib import Path

import h5py

from vggnorm.disk import require_regular_file
from vggnorm.errors import NetworkError, in_one_line
from vggnorm.files.archives import BAD_ARCHIVE
from vggnorm.files.means_npy import is_npy
from vggnorm.files.pytorch import OLD_MAGIC
from vggnorm.files.weights_file import Kind

# What is said of files that are not read.
REFUSED = {
    Kind.PICKLE: "is a pickle, and reading one can run code in it, so that it is not read; if you "
    "trust it, load it in Python and save its arrays with numpy.savez, under the names of one of "
    "the layouts in docs/layouts.md",
    Kind.TAR: "is a tar archive, as PyTorch before 0.2 wrote; load it in PyTorch 1.x and save it "
    "again with torch.save",
    Kind.TORCHSCRIPT: "is a TorchScript program, which holds code; load it with torch.jit.load and "
    "save the weights alone, torch.save(model.state_dict(), FILE)",
    Kind.ONNX: "is an ONNX model, which vggnorm does not read; read its weights with "
    "onnx.numpy_helper and save them with safetensors.numpy.save_file under the names of one of "
    "the layouts in docs/layouts.md",
    Kind.GGUF: "is a GGUF file, of a language model; give the file of a VGG",
    Kind.TENSORFLOW: "is a TensorFlow checkpoint; load it into its model in TensorFlow, and save "
    "the model's weights as .h5 with model.save_weights",
    Kind.SAVED_MODEL: "is a SavedModel of TensorFlow, which holds a program; load its folder with "
    "tf_keras.models.load_model, and save the network as one file, model.save('FILE.h5')",
    Kind.KERAS_FOLDER: "is a folder with a network; load it with keras.saving.load_model, and save "
    "it as one file, model.save('FILE.keras')",
    Kind.SHARDED: "lists weights in several files; load it with model.load_weights, and save it as "
    "one file, model.save_weights('FILE.weights.h5')",
    Kind.ARCHITECTURE: "describes a network without its weights; build it with "
    "keras.models.model_from_json, load its weights, and save both, model.save('FILE.keras')",
    Kind.FOLDER: "is a folder; name the file in it that holds the network or its weights",
    Kind.MAT_HDF5: "is a .mat file of MATLAB 7.3; save it in MATLAB with save(..., '-v7')",
    Kind.WEB_PAGE: "is a web page and not a file of weights; download the file itself",
    Kind.UNKNOWN: "cannot be read: it is not a file of Keras, safetensors, PyTorch, numpy or "
    "MATLAB, or it is damaged; get the file again, or give another",
}

HEAD = 512  # bytes by which a file is recognized

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"

ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")  # the second is an empty archive's

PICKLE_STARTS = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))

TAR_MAGIC, TAR_PLACE = b"ustar", 257

MAT_MAGIC, MAT_HDF5_MAGIC = b"MATLAB 5.0 MAT-file", b"MATLAB 7.3 MAT-file"

TABLE_MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)  # ends the index of a TensorFlow checkpoint

# What a folder holds.
IN_SAVED_MODEL = "saved_model.pb"
IN_KERAS_FOLDER = ("config.json", "model.weights.h5")

HTML_STARTS = (b"<!doctype html", b"<html")

# The first byte of an ONNX model says that its version follows, and the third that the name of its
# producer, or a graph, or the operators' versions do (the fields of ModelProto in onnx.proto).
ONNX_VERSION, ONNX_NEXT = b"\x08", b"\x12\x1a\x22\x32\x3a\x42"


def recognize(path: Path) -> Kind:
    """Tell what a file is; of HDF5 files and zip archives of Keras, only that much.

    Raises:
        NetworkError: the file cannot be read.
    """
    try:
        if path.is_dir():
            return _kind_of_folder(path)
        head, tail = _ends_of(path)
    except OSError as error:
        raise NetworkError(f"{path}: cannot be read: {error.strerror}") from error
    return _kind_of_file(path, head, tail)


def _ends_of(path: Path) -> tuple[bytes, bytes]:
    require_regular_file(path)
    with path.open("rb") as file:
        head = file.read(HEAD)
        size = file.seek(0, 2)
        file.seek(max(0, size - len(TABLE_MAGIC)))
        return head, file.read()


def _kind_of_file(path: Path, head: bytes, tail: bytes) -> Kind:
    if is_npy(head):
        return Kind.MEANS
    if head.startswith(ZIP_MAGICS):
        return _kind_of_zip(path)
    if head.startswith(PICKLE_STARTS):
        return Kind.OLD_PYTORCH if head.startswith(OLD_MAGIC) else Kind.PICKLE
    if head[8:9] == b"{":  # behind the length of that text
        return Kind.SAFETENSORS
    if head.startswith(HDF5_MAGIC) or h5py.is_hdf5(path):  # it may begin with other bytes
        return Kind.MAT_HDF5 if head.startswith(MAT_HDF5_MAGIC) else Kind.OTHER_HDF5
    return _kind_by_marks(head, tail, path.name)


def _kind_of_folder(path: Path) -> Kind:
    """Tell what a folder is by the names in it."""
    if (path / IN_SAVED_MODEL).exists():
        return Kind.SAVED_MODEL
    if all((path / name).exists() for name in IN_KERAS_FOLDER):
        return Kind.KERAS_FOLDER
    return Kind.FOLDER


def _kind_by_marks(head: bytes, tail: bytes, name: str) -> Kind:
    start = head.lstrip()[:14].lower()
    marks = {
        Kind.MAT: head.startswith(MAT_MAGIC),
        Kind.TAR: head[TAR_PLACE:].startswith(TAR_MAGIC),
        Kind.GGUF: head.startswith(b"GGUF"),
        Kind.TENSORFLOW: tail == TABLE_MAGIC or b"model_checkpoint_path:" in head,
        Kind.WEB_PAGE: start.startswith(HTML_STARTS),
        Kind.SAVED_MODEL: name == IN_SAVED_MODEL,  # it has no mark, and begins as an ONNX model
        Kind.SHARDED: start.startswith(b"{") and b'"total_size"' in head,
        Kind.ARCHITECTURE: start.startswith(b"{") and b'"class_name"' in head,
        Kind.ONNX: head.startswith(ONNX_VERSION) and head[2:3] in ONNX_NEXT,
    }
    for kind, is_there in marks.items():
        if is_there:
            return kind
    # The numbers of a TensorFlow checkpoint have no mark but the file's name.
    return Kind.TENSORFLOW if ".data-0" in name else Kind.UNKNOWN


def _kind_of_zip(path: Path) -> Kind:
    """Tell what a zip archive is by the names in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except OSError as error:
        raise NetworkError(f"{path}: cannot be read: {error.strerror or error}") from error
    except BAD_ARCHIVE as error:
        raise NetworkError(
            f"{path}: is a zip archive that is cut off or damaged: {in_one_line(error)}; get the "
            "file again"
        ) from error
    if any(name.endswith("/data.pkl") for name in names):
        is_program = any(name.endswith("/constants.pkl") for name in names)
        return Kind.TORCHSCRIPT if is_program else Kind.PYTORCH
    is_npz = bool(names) and all(name.endswith(".npy") for name in names)
    return Kind.NPZ if is_npz else Kind.ZIP
