"""Trains the optimiser that is an LSTM, and compares it with rules whose rate is tuned.

    python benchmarks/learned_optimiser.py train quadratics --seeds 0 1 2   # eight minutes of one core a seed
    python benchmarks/learned_optimiser.py test quadratics                  # a minute

What comes out is kept under data/learned-optimiser/, where chapter 10 finds it. The first command keeps the
LSTM, the second the curves of all that is there.
"""

import argparse
import time

import pandas as pd
import problems  # noqa: F401  (which sees to the clone)
import torch
from tqdm import tqdm

from mamlkit import files
from mamlkit.runs import checkpoints, devices, learned_optimiser
from mamlkit.runs.learned_optimiser import RATES, SETTINGS, STEPS
from mamlkit.runs.provenance import provenance

EPOCHS = 1000
LOGGED = 20  # epochs averaged into one line of the log


def origin() -> dict[str, object]:
    """Of what is measured here and now."""
    return provenance(devices.described(torch.device("cpu")))


def train(name: str, seed: int, epochs: int) -> None:
    """Keep an LSTM, its log and its origin."""
    setting, place = SETTINGS[name], learned_optimiser.folder(name)
    begun, start = origin(), time.perf_counter()
    progress = tqdm(total=epochs, desc=f"{name}, seed {seed}", mininterval=30)
    phi, log = learned_optimiser.train(setting, seed, epochs, progress.update)
    seconds = round(time.perf_counter() - start)
    checkpoints.save_params(phi, place / f"seed{seed}.safetensors")
    lines = pd.DataFrame({"epoch": range(1, epochs + 1), "last_loss": log})
    means = lines.groupby((lines["epoch"] - 1) // LOGGED).agg({"epoch": "max", "last_loss": "mean"})
    files.write_text(place / f"seed{seed}.metrics.csv", means.to_csv(index=False, float_format="%.4g"))
    record = {"name": name, "seed": seed, "epochs": epochs, "seconds": seconds, "origin": begun}
    files.write_json(place / f"seed{seed}.json", record)


def test(name: str) -> None:
    """Keep the validation scores of all rates, and the curves of the best ones and of every LSTM."""
    setting, place = SETTINGS[name], learned_optimiser.folder(name)
    scores = learned_optimiser.tune(setting)
    rows = [(rule, rate, score) for rule, of in scores.items() for rate, score in zip(RATES, of)]
    table = pd.DataFrame(rows, columns=["rule", "rate", "score"])
    files.write_text(place / "rates.csv", table.to_csv(index=False, float_format="%.5g"))
    best = learned_optimiser.best_rates(scores)
    rules = {(rule, ""): learned_optimiser.RULES[rule](rate) for rule, rate in best.items()}
    for path in sorted(place.glob("seed*.safetensors")):
        rules["LSTM", path.stem[4:]] = setting.rule(checkpoints.load_params(path))
    objectives, curves = learned_optimiser.tests_of(setting, setting.tests), []
    for (rule, seed), made in rules.items():
        found = learned_optimiser.log_losses(made, objectives, 2 * STEPS)
        of_rule = pd.DataFrame({"rule": rule, "seed": seed, "step": range(len(found))})
        curves.append(of_rule.assign(mean=found.mean(1), sd=found.std(1, ddof=1)))
    files.write_text(place / "curves.csv", pd.concat(curves).to_csv(index=False, float_format="%.5g"))
    record = {"name": name, "problems": len(objectives.start), "tuned_on": learned_optimiser.TUNING}
    files.write_json(place / "curves.json", record | {"origin": origin()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["train", "test"])
    parser.add_argument("name", choices=list(SETTINGS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args()
    devices.set_up("cpu", threads=1)  # tensors this small only wait for each other on two
    if options.what == "test":
        test(options.name)
    else:
        for seed in options.seeds:
            train(options.name, seed, options.epochs)


if __name__ == "__main__":
    main()
