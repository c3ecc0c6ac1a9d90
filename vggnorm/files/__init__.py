"""The formats on disk: how each is recognized, checked, read and written.

Opening and writing:

- `formats.py`: where files are opened, and checked once
- `recognition.py`: what a file is, by its bytes
- `saving.py`: writing the weights of a VGG for any program
- `tensor.py`: an array in a file, read when it is asked for
- `weights_file.py`: an open file of weights, whatever its format
- `writing.py`: writing arrays into a file of any format

A VGG's weights, as programs name, order and take them:

- `conventions.py`: what networks take photos as, and how the first convolution is converted
- `conversion.py`: fewer layers, another convention, another type
- `known_kernels.py`: known first convolutions, by which a convention is recognized
- `layouts.py`: the table of names and axes
- `vgg_by_order.py`: a VGG under other names, recognized by its order and shapes
- `vgg_config.py`: the configuration of a VGG in Keras's words
- `vgg_weights.py`: the weights of a VGG, out of any layout and into it

Formats:

- `allowlist.py`: the layers and functions that a stranger's model may name
- `archives.py`: what every zip archive must keep to
- `containers.py`: how each format is written and read back, in one table
- `keras2_config.py`: a model's configuration, rewritten the way Keras 2 wrote it
- `keras2_operations.py`: TensorFlow's operations in a Keras 2 model, as operations of Keras 3
- `keras3_config.py`: what Keras 3 cannot read of a model's configuration, in words that it can
- `keras_file.py`: an open file of Keras
- `keras_h5.py`: the model file that normalize writes
- `keras_weights.py`: weights in the HDF5 layouts of Keras
- `mat.py`: MatConvNet's .mat
- `mat_check.py`: the check of a .mat file before SciPy reads it
- `nested_config.py`: models inside a model, in the configurations of Keras 2 and 3
- `npz.py`: numpy's .npz
- `older_config.py`: an older Keras's configuration, in the words of the newest
- `operations.py`: operations such as `keras.ops.pad` in a model's configuration
- `pytorch.py`: PyTorch's .pth
- `safetensors.py`: safetensors
- `unnamed_layers.py`: the names of layers in files that do not hold them
- `untrusted.py`: checks of files from strangers, before anything else reads them

Means:

- `carried.py`: the means that travel with weights
- `means_npy.py`: means.npy
- `means_parts.py`: what a file of means holds, and its checks
- `packaged.py`: the means that come with the program
- `stored_means.py`: the means inside a model file
"""
