"""What was measured: running sums, the means of every filter, and their recipe.

- `filter_means.py`: FilterMeans: the mean of every filter, with its standard error and recipe
- `intervals.py`: confidence intervals of means, corrected for skewness
- `machines.py`: the machines that measured, as one line of text
- `merge.py`: adding up the means of several parts of the photos
- `moments.py`: count, mean, spread and skew as running sums that can be added
- `recipe.py`: Recipe: everything that decides the means
- `renaming.py`: means under other names of the layers
- `sums.py`: Sums: what was measured over some photos, to be added up
"""
