"""Rescale a trained VGG network so that every convolutional filter has mean activation 1.

>>> import vggnorm
>>> model = vggnorm.load_network("vgg16")
>>> means = vggnorm.compute_means(model, "coco/val2017")
>>> normalized = vggnorm.normalize(model, means)
>>> vggnorm.save_network(normalized, "vgg16_norm.h5", means)
>>> report = vggnorm.verify(model, normalized, "coco/val2017", means)

The rule itself is three lines of numpy, the first function of `vggnorm/rule.py`. The public names
are listed in `__init__.pyi`. Each one is imported when it is first used, because Keras takes
seconds to import.
"""

import os

import lazy_loader

from vggnorm.photos.cores import core_limit
from vggnorm.processor import tensorflow_settings
from vggnorm.version import __version__ as __version__

# TensorFlow reads its settings when it is imported, which is later. The user's own come first.
for _name, _value in tensorflow_settings(core_limit()).items():
    os.environ.setdefault(_name, _value)

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
