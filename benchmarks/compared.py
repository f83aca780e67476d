"""What a training of each compared method takes of memory, on the same shapes.

    python benchmarks/compared.py [--save]

measures every method of the grid that learns, a process for each, since a peak is never forgotten. Chapter 9
shows the table. It takes some minutes, and the network and the images are the grid's: Glyphs, which are as
large as Omniglot's, and Textures, as large as Mini-ImageNet's.

    python benchmarks/compared.py NAME

prints the numbers that the training of one row learns, and its peak of memory in megabytes.
"""

import argparse
import ctypes
import dataclasses
import subprocess
import sys
from contextlib import suppress

import pandas as pd
from growth import forget_peak, peak
from kept import keep
from tqdm import tqdm

from mamlkit.experiments.compare import column_of, methods_of, name_of
from mamlkit.experiments.paper import get
from mamlkit.experiments.rows import Row
from mamlkit.runs import devices, train, trainings
from mamlkit.runs.provenance import provenance

SHAPES = ("glyphs-5way-1shot", "textures-5way-1shot")
UPDATES = 2


def memory(row: Row) -> tuple[int, float]:
    """Numbers that a training learns, and the peak megabytes of its first updates, above what it began with.

    Images and parameters are there by then; gradients, moments of Adam and all that a task needs are not.
    """
    network, options = row.network
    small = dataclasses.replace(row, network=(network, options | {"filters": 2}))
    train.fit(small, until=1, validate=False)  # so that libraries and compiled loops are there
    training = trainings.begin(row, validate=False)
    _give_back()
    forget_peak()
    before, done = peak(), 0
    while done < UPDATES:
        done = training.advance(done, UPDATES)
    return sum(value.numel() for value in training.params.values()), peak() - before


def _give_back() -> None:
    """Hand freed memory back to the system, where the C library can: else it would not count when reused."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def table() -> pd.DataFrame:
    """:func:`memory` of every method that learns, in processes of their own."""
    pairs = [(column_of(shape), method) for shape in SHAPES for method in methods_of(column_of(shape))]
    lines = []
    for column, method in tqdm([pair for pair in pairs if pair[1].kind != "nothing learned"]):
        command = [sys.executable, __file__, name_of(column, method)]
        printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        numbers, peak_mb = printed.split()
        lines.append(
            {
                "column": column.name,
                "method": method.slug,
                "numbers": int(numbers),
                "MB": round(float(peak_mb)),
            }
        )
    return pd.DataFrame(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", help="a row of the grid (all if not given)")
    parser.add_argument("--save", action="store_true", help="keep the table under data/benchmarks/")
    options = parser.parse_args()
    devices.set_up("cpu", threads=1)
    if options.name:
        print(*memory(get(options.name)))
        return
    origin = provenance("cpu, 1 thread")
    found = table()
    print(found.to_string(index=False))
    if options.save:
        keep("compare", "memory", found, origin, "%g")


if __name__ == "__main__":
    main()
