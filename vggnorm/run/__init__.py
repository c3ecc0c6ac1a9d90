"""One run, from its start to its end.

- `checkpoint.py`: what a run keeps on disk, so that it can go on
- `choosing.py`: which precision a run measures in
- `engine.py`: the measuring of blocks by other processes, and the adding up here
- `lock.py`: one run at a time to one output
- `loop.py`: the loop over all photos
- `machine.py`: what decides the last bits of the means: processor, threads, libraries
- `measuring.py`: from the pixels of a batch to sums
- `options.py`: what a run may be told, as values
- `output.py`: the file of means that a run makes, with its lock and its checkpoint
- `progress.py`: the progress bar, or a line now and then
- `ray.py`: Ray as the engine
- `remarks.py`: lines that a run says
- `signals.py`: the signals that end a run early
- `startup.py`: starting a command, and importing Keras quietly
"""
