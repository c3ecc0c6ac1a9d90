"""Groups of Keras layers, by what they do to a scale; `vggnorm.network.layers` has the rules."""

import keras
from keras import layers

from vggnorm.network.reflection import ReflectionPadding2D

LayerKind = type[keras.Layer]

# Layers with filters, besides dense layers. Each group lays out its kernel in one way.

CONVOLUTIONS: tuple[LayerKind, ...] = (
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
)

# The kernel has the filters before the channels.
TRANSPOSED: tuple[LayerKind, ...] = (
    layers.Conv1DTranspose,
    layers.Conv2DTranspose,
    layers.Conv3DTranspose,
)

# Each filter sees one channel.
DEPTHWISE: tuple[LayerKind, ...] = (
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
)

# A depthwise kernel, and a pointwise one behind it.
SEPARABLE: tuple[LayerKind, ...] = (
    layers.SeparableConv1D,
    layers.SeparableConv2D,
)

# Layers without filters.

RECTIFIERS: tuple[LayerKind, ...] = (
    layers.ReLU,
    layers.LeakyReLU,
    layers.PReLU,
    layers.Activation,
)

# They mix positions, and keep each channel to itself.
SPATIAL: tuple[LayerKind, ...] = (
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
    layers.ZeroPadding1D,
    layers.ZeroPadding2D,
    layers.ZeroPadding3D,
    ReflectionPadding2D,
    layers.Cropping1D,
    layers.Cropping2D,
    layers.Cropping3D,
    layers.UpSampling1D,
    layers.UpSampling2D,
    layers.UpSampling3D,
    layers.CenterCrop,
    layers.Resizing,
)

# Augmentation. Each gives its input back when a network is used. An early Keras 3 lacks some.
# RandomCrop does so, too, but tells Keras another shape: see `vggnorm.network.nesting`.
AUGMENTING: tuple[LayerKind, ...] = tuple(
    getattr(layers, name)
    for name in (
        "AugMix",
        "CutMix",
        "MixUp",
        "RandomBrightness",
        "RandomColorDegeneration",
        "RandomColorJitter",
        "RandomContrast",
        "RandomElasticTransform",
        "RandomErasing",
        "RandomFlip",
        "RandomGaussianBlur",
        "RandomGrayscale",
        "RandomHue",
        "RandomInvert",
        "RandomPerspective",
        "RandomPosterization",
        "RandomRotation",
        "RandomSaturation",
        "RandomSharpness",
        "RandomShear",
        "RandomTranslation",
        "RandomZoom",
        "Solarization",
    )
    if hasattr(layers, name)
)

# They do something in training only.
IN_TRAINING: tuple[LayerKind, ...] = (
    *AUGMENTING,
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.ActivityRegularization,
    layers.Identity,
)

# They leave one number of each channel.
POOLING_AWAY: tuple[LayerKind, ...] = (
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.GlobalMaxPooling3D,
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
)

# They move the numbers to other places.
MOVING: tuple[LayerKind, ...] = (
    layers.Flatten,
    layers.Reshape,
    layers.Permute,
)

JOINING: tuple[LayerKind, ...] = (layers.Concatenate,)
