"""The formats on disk: how each is recognized, checked, read and written.

- `allowlist.py`: the layers and functions that a stranger's model may name
- `formats.py`: the desk that decides what a file is, and opens and checks it once
- `keras2_config.py`: a model's configuration, rewritten the way Keras 2 wrote it
- `keras_h5.py`: the model file that normalize writes
- `keras_weights.py`: weights in the HDF5 layouts of Keras
- `means_npy.py`: means.npy
- `stored_means.py`: the means inside a model file
- `untrusted.py`: checks of files from strangers, before anything else reads them
"""
