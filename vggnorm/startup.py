"""Starting Keras without its noise, for command lines."""

import os
import tempfile


def import_keras() -> None:
    """Import Keras, and keep back what TensorFlow's libraries say of the machine meanwhile, unless the import fails."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # does not reach what is logged before it is read
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            import keras  # noqa: F401, PLC0415
        except Exception:
            said.seek(0)
            os.write(stderr, said.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
