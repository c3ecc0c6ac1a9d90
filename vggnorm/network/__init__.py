"""How Keras's networks are read, copied, measured, loaded and saved.

- `applications.py`: VGG16 and VGG19 as `keras.applications` builds them
- `bfloat16.py`: a copy of a network that computes in bfloat16
- `copies.py`: copies of a network, and the check that they compute the same
- `description.py`: what a network computes, as a text to compare
- `family.py`: a VGG of Keras, out of files of other programs and into them
- `graph.py`: how scales travel through a network, and what may be normalized
- `instruments.py`: models that give each filter's mean activation for every photo
- `keras_private.py`: the only module that uses private attributes of Keras
- `kinds.py`: the kinds of layers, by what they do to a scale
- `layers.py`: what each kind of layer does to a scale
- `padding.py`: a network with reflection padding in place of zero padding, and back
- `precision.py`: full float32, and the choice between it and bfloat16
- `rectifiers.py`: which activations let a positive factor through
- `reflection.py`: the layer that pads with reflections
- `room.py`: the memory that a network needs, found before it is loaded
- `steps.py`: one call of a layer, as the rule sees it
- `storage.py`: loading and saving a network
- `weights.py`: a network's weights: their order in files, and their digest
"""
