"""Every limit that identification judges by, with its unit and its reason."""

# Relative residual of a filter's kernel, 0 to 1. Up to this, weights are the original's with
# something done to them besides. Rounding each layer to 8 bits leaves up to 0.28 in 12 layers of a
# normalized VGG16, and 0.72 in the last. Unrelated weights leave about 1.
NEAR = 0.3

# Rounds of median polish. For exact data the first is exact.
POLISHES = 4

# Relative spread. Numbers that differ by less count as one number.
CONSTANT = 1e-3

# An activation, and a share of a layer's filters. In VGG16, normalized with means over 16 photos
# and over 60, no filter of a layer without pooling before it has sum W' + b' above 1.1. With random
# scales up to 75 % of a layer's filters have; with each layer's means exchanged among its filters,
# up to 22 %.
DRIFT_LIMIT = 1.1
DRIFT_SHARE = 0.02

# A correlation of logarithms, and a ratio. The logarithms of VGG16's means over 16 photos and over
# 60 others have a correlation of 0.65, in the median over the layers, and the layers' median ratios
# are 0.75 to 1.03. Means exchanged among a layer's filters are not correlated.
CORRELATION = 0.4
RATIO = 2.0

# Relative difference from a scale that the means give. Up to EXACT, the scale was computed from
# these means; up to CLOSE, it is close to them.
EXACT = 1e-4
CLOSE = 0.05

# Share of filters whose scale is close to the means. Means over other photos never get this close.
ALMOST = 0.99
