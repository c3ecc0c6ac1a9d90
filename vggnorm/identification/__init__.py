"""What a weight file of unknown origin is, compared with the network it was made from.

- `comparison.py`: how recovered scales compare with measured means
- `judge.py`: the verdict, from scales and comparison
- `layer_scales.py`: the scales of one layer
- `matching.py`: which original a file may come from, and which of its layers is which
- `recovery.py`: the scales: what each filter was divided by, found from the weights alone
- `rounding.py`: how far numbers may be off by the format that they were kept in
- `thresholds.py`: the limits that the verdict depends on
- `verdict.py`: `identify`, from the file to the verdict
"""
