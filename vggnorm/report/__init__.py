"""Words, tables and plots for people.

- `curves.py`: the curves that plots draw
- `identification.py`: what identification found, as text and as JSON
- `intervals.py`: how well means are known, as lines
- `plot.py`: plots of how the means are distributed
- `printable.py`: how text leaves the program: control characters as escapes
- `text.py`: a set of means as a table and as JSON
- `verification.py`: what verification found, as text and as JSON
- `weights.py`: what a file of weights holds, as text
"""
