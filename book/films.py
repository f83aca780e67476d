"""Make the committed animations of the book.

    python book/films.py sinusoid      ->  book/films/sinusoid.gif

An animation uses the committed checkpoints; where a row has none yet, it is trained at the quick scale first.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
from matplotlib.animation import FuncAnimation, PillowWriter

from mamlkit import checkpoints, experiments, maml, plots, results, train

FOLDER = Path(__file__).parent / "films"
LIMIT = 500_000  # bytes


def parameters(name: str, seed: int = 0) -> dict[str, torch.Tensor]:
    """The committed parameters of a row, or those of a quick run."""
    path = results.checkpoint(name, seed)
    if path.exists():
        return checkpoints.load_params(path)
    return train.fit(experiments.get(name).at("quick"), seed=seed, validate=False).params


def sinusoid() -> FuncAnimation:
    """Adaptation from five points, step by step: MAML beside the pretrained network."""
    x = torch.linspace(-5, 5, 201)[:, None]
    points = torch.tensor([-4.2, -2.9, -0.3, 1.5, 3.6])[:, None]
    wave = lambda at: 4.0 * torch.sin(at - 1.2)
    outputs, errors, steps = {}, {}, {}
    for method, name in (("MAML", "sinusoid-maml"), ("pretrained", "sinusoid-pretrained")):
        row = experiments.get(name)
        test = row.evaluations[0]
        learner = train.build(row, test)
        path = maml.adaptation_path(
            learner.loss_fn, parameters(name), (points, wave(points)), inner_lr=test.inner_lr, inner_steps=test.inner_steps
        )
        outputs[method] = [learner.model.apply(fast, x).detach()[:, 0] for fast in path]
        errors[method] = [float(((y - wave(x)[:, 0]) ** 2).mean()) for y in outputs[method]]
        steps[method] = test.inner_lr

    plots.use_style()
    fig, axes = plt.subplots(1, 2, figsize=(7.2, 3.2), dpi=100, sharey=True)

    def draw(frame: int) -> None:
        for ax, method in zip(axes, outputs):
            style = plots.METHOD_STYLES[method]
            ax.clear()
            ax.plot(x, wave(x), color="black", linewidth=4, alpha=0.22)
            for earlier in range(frame):
                ax.plot(x, outputs[method][earlier], color=style["color"], linewidth=0.8, alpha=0.25)
            ax.plot(x, outputs[method][frame], color=style["color"], linewidth=2.2)
            ax.plot(points, wave(points), "^", color=plots.COLOURS["purple"], markersize=8, markeredgecolor="black")
            ax.set(xlabel="x (rad)", xlim=(-5, 5), ylim=(-6, 6))
            ax.set_title(f"{method}, α = {steps[method]}: step {frame:2d}, error {errors[method][frame]:5.2f}")
        axes[0].set_ylabel("y")

    frames = [0, 0, *range(1, len(outputs["MAML"])), *[len(outputs["MAML"]) - 1] * 3]
    return FuncAnimation(fig, draw, frames=frames)


FILMS = {"sinusoid": sinusoid}


def main(names: list[str]) -> int:
    """Make the named films; the exit status tells whether all went well."""
    if not names or set(names) - set(FILMS):
        print(f"usage: python book/films.py NAME...; the films are {', '.join(FILMS)}", file=sys.stderr)
        return 2
    FOLDER.mkdir(exist_ok=True)
    for name in names:
        path = FOLDER / f"{name}.gif"
        FILMS[name]().save(path, writer=PillowWriter(fps=1.5))
        size = path.stat().st_size
        print(f"{path}: {size / 1000:.0f} kB")
        if size > LIMIT:
            print(f"{path} is larger than {LIMIT / 1000:.0f} kB; use fewer frames or a smaller figure", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
