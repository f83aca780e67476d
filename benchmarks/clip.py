"""How much of a meta-gradient the bound of its components cuts on Mini-ImageNet, method by method.

    python benchmarks/clip.py [--save]

The authors' code cuts each component to [-10, 10] there, and so does every row of chapter 9's grid. After no,
three and ten updates of a training this counts what lies beyond, in the gradient of its next update, and
how far the cut one turns. It needs Mini-ImageNet and takes a few minutes. Chapter 9 shows the table.
"""

import pandas as pd
import torch
from kept import begun, keep
from torch.nn.functional import cosine_similarity
from tqdm import tqdm

from mamlkit.engine import meta_batch
from mamlkit.experiments.compare import column_of, methods_of, name_of
from mamlkit.experiments.paper import get
from mamlkit.runs import supervised, trainings
from mamlkit.runs.seeds import generator

COLUMN = column_of("mini-imagenet-5way-1shot")
AFTER = (0, 3, 10)  # updates


def counted(name: str) -> list[dict[str, float]]:
    """Of one row, after each number of updates: per cent of the components beyond its bound, and a cosine."""
    row, training, lines = get(name), trainings.begin(get(name), validate=False), []
    method, family = supervised.method(row), supervised.tasks_of(row, "train", "cpu")
    assert row.clip
    for after, last in zip(AFTER, (*AFTER[1:], AFTER[-1])):
        batch = family.sample(generator(0, "train", after), row.meta_batch_size)  # of the next update
        gradient, losses = meta_batch.meta_gradient(method, training.params, batch)
        whole = torch.cat([value.flatten() for value in gradient.values()])
        cut = whole.clamp(-row.clip, row.clip)
        lines.append(
            {
                "updates": after,
                "beyond": 100 * float((whole.abs() > row.clip).float().mean()),
                "cosine": float(cosine_similarity(whole, cut, dim=0)),
                "loss": float(losses.mean()),
            }
        )
        for iteration in range(after, last):
            training.advance(iteration, iteration + 1)
    return lines


def main() -> None:
    save, origin = begun(__doc__)
    learn = [method for method in methods_of(COLUMN) if method.kind != "nothing learned"]
    lines = [
        {"method": method.slug} | line for method in tqdm(learn) for line in counted(name_of(COLUMN, method))
    ]
    table = pd.DataFrame(lines)
    print(table.to_string(index=False, float_format="%.2f"))
    if save:
        keep("clip", "beyond", table, origin, "%.4g")


if __name__ == "__main__":
    main()
