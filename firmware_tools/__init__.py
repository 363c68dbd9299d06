"""Everything that ends as bytes on a chip: from a .tflite to C, to an image, to a board; and the link to it."""

__version__ = "0.1.0"
