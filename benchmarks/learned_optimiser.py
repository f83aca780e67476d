"""Trains the optimiser that is an LSTM, and compares it with rules whose rate is tuned.

    python benchmarks/learned_optimiser.py train quadratics --seeds 0 1 2   # eight minutes of one core a seed
    python benchmarks/learned_optimiser.py test quadratics                  # a minute
    python benchmarks/learned_optimiser.py tune quadratics                  # a minute

What comes out is kept under data/learned-optimiser/, where chapter 10 finds it. The first command keeps the
LSTM, the second the curves of all that is there, the third what rates are the best on more problems.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import problems  # noqa: F401  (which sees to the clone)
import torch
from tqdm import tqdm

from mamlkit import files, measures
from mamlkit.methods.learned_optimiser import Rule
from mamlkit.runs import checkpoints, devices, learned_optimiser
from mamlkit.runs.learned_optimiser import SETTINGS, STEPS
from mamlkit.runs.provenance import provenance
from mamlkit.tasks.objectives import Objectives

EPOCHS = 1000
LOGGED = 20  # epochs averaged into one line of the log
MORE = 10  # times as many problems to tune on
SHOWN = 5  # steps from one point of a curve to the next


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
    keep(place / f"seed{seed}.metrics.csv", means)
    record = {"name": name, "seed": seed, "epochs": epochs, "seconds": seconds, "origin": begun}
    files.write_json(place / f"seed{seed}.json", record)


def test(name: str) -> None:
    """Keep the validation scores of all rates; the curves of the best and of each LSTM, and their gaps."""
    setting, place = SETTINGS[name], learned_optimiser.folder(name)
    begun, scores = origin(), learned_optimiser.tune(setting)
    rows = [
        (rule, rate, score) for rule, of in scores.items() for rate, score in zip(learned_optimiser.RATES, of)
    ]
    keep(place / "rates.csv", pd.DataFrame(rows, columns=["rule", "rate", "score"]))
    best = learned_optimiser.best_rates(scores)
    rules = {(rule, ""): learned_optimiser.RULES[rule](rate) for rule, rate in best.items()}
    for path in sorted(place.glob("seed*.safetensors")):
        rules["LSTM", path.stem[4:]] = setting.rule(checkpoints.load_params(path))
    curves, gaps, means = [], [], []
    score, many = "mean loss over the steps", max(setting.tests, learned_optimiser.TUNING)
    for_mean = learned_optimiser.best_rates(learned_optimiser.tune(setting, score, many))
    for kind, options in {"as in training": {}, **setting.others}.items():
        objectives = learned_optimiser.tests_of(setting, setting.tests, **options)
        found = {
            key: learned_optimiser.log_losses(rule, objectives, 2 * STEPS) for key, rule in rules.items()
        }
        for (rule, seed), losses in found.items():
            line = {"problems": kind, "rule": rule, "seed": seed}
            for step in range(0, 2 * STEPS + 1, SHOWN):
                worse = int((losses[step] > losses[0]).sum())
                curves.append({**line, "step": step, **named(losses[step]), "worse": worse})
            for usual in best if rule == "LSTM" else ():
                for step in (STEPS, 2 * STEPS):
                    gap = np.nan_to_num(losses[step] - found[usual, ""][step], posinf=np.inf, neginf=-np.inf)
                    gaps.append({**line, "rule": usual, "step": step, **named(gap)})
        means += [{"problems": kind, **line} for line in objective_of(objectives, for_mean, rules)]
    keep(place / "curves.csv", pd.DataFrame(curves))
    keep(place / "means.csv", pd.DataFrame(means))
    keep(place / "gaps.csv", pd.DataFrame(gaps))
    record = {"name": name, "problems": setting.tests, "tuned_on": learned_optimiser.TUNING, "origin": begun}
    files.write_json(place / "tests.json", record)


def tune(name: str) -> None:
    """Keep the best rates on as many validation problems as in :func:`test` and on ten times as many.

    A line has what a rate comes to on the test problems: the median logarithm of the loss after the last step
    of the LSTM's training, the logarithm of the mean loss over the steps, and how many problems are worse off
    than at the start.
    """
    setting, place, begun = SETTINGS[name], learned_optimiser.folder(name), origin()
    objectives, lines = learned_optimiser.tests_of(setting, setting.tests), []
    usual = learned_optimiser.TUNING
    for score, few in zip(learned_optimiser.SCORES, (usual, max(setting.tests, usual)), strict=True):
        for count in (few, MORE * few):
            best = learned_optimiser.best_rates(learned_optimiser.tune(setting, score, count))
            for rule, rate in best.items():
                logs = learned_optimiser.log_losses(learned_optimiser.RULES[rule](rate), objectives)
                line = {"score": score, "tuned_on": count, "rule": rule, "rate": rate}
                line |= {"at_end": float(np.median(logs[STEPS]))}
                line |= {"over_steps": learned_optimiser.SCORES["mean loss over the steps"](logs)}
                lines.append(line | {"diverged": int((logs[STEPS] > logs[0]).sum())})
    keep(place / "tuning.csv", pd.DataFrame(lines))
    files.write_json(place / "tuning.json", {"name": name, "problems": setting.tests, "origin": begun})


def objective_of(
    objectives: Objectives, best: dict[str, float], rules: dict[tuple[str, str], Rule]
) -> list[dict[str, object]]:
    """What the LSTM is trained on, beside usual rules with the rates that are best for that."""
    tuned = {(rule, ""): learned_optimiser.RULES[rule](rate) for rule, rate in best.items()}
    learned = {key: rule for key, rule in rules.items() if key[0] == "LSTM"}
    found = {key: learned_optimiser.log_losses(rule, objectives) for key, rule in (tuned | learned).items()}
    lines = []
    for (rule, seed), logs in found.items():
        of_steps, line = learned_optimiser.over_steps(logs), {"rule": rule, "seed": seed}
        line |= {"rate": best.get(rule, ""), "diverged": int((logs[STEPS] > logs[0]).sum())}
        for name, values in (("over_steps", of_steps), ("at_end", 10 ** logs[STEPS])):
            line |= dict(zip((name, f"{name}_ci95"), measures.interval(values)))
        for usual in best if rule == "LSTM" else ():
            other = learned_optimiser.over_steps(found[usual, ""])
            line[f"below {usual}, %"] = 100 * float((of_steps < other).mean())
        lines.append(line)
    return lines


def named(values: np.ndarray) -> dict[str, float]:
    """The median over problems, with its interval."""
    return dict(zip(("median", "low", "high"), learned_optimiser.median(values)))


def keep(path: Path, table: pd.DataFrame) -> None:
    files.write_text(path, table.to_csv(index=False, float_format="%.5g"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["train", "test", "tune"])
    parser.add_argument("name", choices=list(SETTINGS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args()
    devices.set_up("cpu", threads=1)  # tensors this small only wait for each other on two
    if options.what != "train":
        {"test": test, "tune": tune}[options.what](options.name)
    else:
        for seed in options.seeds:
            train(options.name, seed, options.epochs)


if __name__ == "__main__":
    main()
