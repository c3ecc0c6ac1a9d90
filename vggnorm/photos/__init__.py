"""Where photos come from, and how they become pixels.

- `budget.py`: a limit on the pixels that are decoded at a time
- `coco.py`: COCO annotation files: which photos they list
- `cores.py`: the processor cores that this process may use
- `decode.py`: from an image file to RGB pixels
- `digests.py`: digests of sets of photos, which can be added
- `folder.py`: a folder of photos, and the order in which they are taken
- `geometry.py`: how a photo is made square
- `matching.py`: which of the photos found an annotation file means
- `modes.py`: from Pillow's modes to 8-bit RGB
- `photo_list.py`: PhotoList: which photos, from where, in which order
- `profiles.py`: colour profiles
- `reader.py`: batches of photos, decoded by several threads
- `skipped.py`: a photo that was left out, and why
- `source.py`: Source: the one door to photos, with names, sizes and open
- `webp.py`: the size of a WebP image, read from its header
"""
