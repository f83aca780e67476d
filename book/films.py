"""Make the committed animations of the book.

    python book/films.py sinusoid      ->  book/films/sinusoid.gif
    python book/films.py preview       ->  book/_static/preview.png, the picture of a link that is shared

An animation uses the committed checkpoints; where a row has none yet, it is trained at the quick scale first,
and a line on stderr says so. The robots are drawn off screen: on Linux through EGL (libegl1) unless MUJOCO_GL
says otherwise.
"""

import math
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "_ext"))
import surroundings

surroundings.use_this_clone()

import matplotlib

matplotlib.use("Agg")
if sys.platform == "linux":
    os.environ.setdefault("MUJOCO_GL", "egl")  # before MuJoCo is imported

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.animation import FuncAnimation, PillowWriter
from PIL import Image, ImageDraw, ImageFont

from mamlkit import maml
from mamlkit.experiments import paper, rows
from mamlkit.report import plots, results
from mamlkit.rl import envs, maml_rl, memory
from mamlkit.rl.goal_trials import GoalTrials
from mamlkit.rl.goals import Velocity
from mamlkit.rl.sampling import mean_returns, sample, to_steps
from mamlkit.runs import checkpoints, policies, supervised, train
from mamlkit.runs.seeds import generator

FOLDER = Path(__file__).parent / "films"
LIMIT = 500_000  # bytes


def parameters(name: str, seed: int = 0) -> dict[str, torch.Tensor]:
    """The committed parameters of a row, or those of a quick run."""
    path = results.checkpoint(name, seed)
    if path.exists():
        return checkpoints.load_params(path)
    print(
        f"{name} has no committed run: the film shows a quick one and is not fit for the book",
        file=sys.stderr,
    )
    row = paper.get(name).at("quick")
    if isinstance(row, rows.PolicyRow):
        return train.fit(row, seed=seed).params
    return train.fit(row, seed=seed, validate=False).params


def sinusoid(target: Path) -> None:
    """Adaptation from five points, step by step: MAML beside the pretrained network."""
    fig, draw, last = waves((7.2, 3.2))
    frames = [0, 0, *range(1, last + 1), *[last] * 3]
    FuncAnimation(fig, draw, frames=frames).save(target, writer=PillowWriter(fps=1.5))


def preview(target: Path) -> None:
    """The frame after one step, in the size that pages with a link to another one show."""
    fig, draw, _ = waves((12.0, 6.3))
    draw(1)
    fig.suptitle("Reproducing MAML", fontsize=28, x=0.03, ha="left")
    fig.savefig(target, bbox_inches=None)


def waves(inches: tuple[float, float]) -> tuple[plt.Figure, Callable[[int], None], int]:
    """A figure, what draws a step of the adaptation into it, and the last step."""
    x = torch.linspace(-5, 5, 201)[:, None]
    points = torch.tensor([-4.2, -2.9, -0.3, 1.5, 3.6])[:, None]
    wave = lambda at: 4.0 * torch.sin(at - 1.2)
    outputs, errors, steps = {}, {}, {}
    for method, name in (("MAML", "sinusoid-maml"), ("pretrained", "sinusoid-pretrained")):
        row = paper.get(name)
        test = row.evaluations[0]
        learner = supervised.build(row, test)
        sizes = {"inner_lr": test.inner_lr, "inner_steps": test.inner_steps}
        path = maml.adaptation_path(learner.loss_fn, parameters(name), (points, wave(points)), **sizes)
        outputs[method] = [learner.model.apply(fast, x).detach()[:, 0] for fast in path]
        errors[method] = [float(((y - wave(x)[:, 0]) ** 2).mean()) for y in outputs[method]]
        steps[method] = test.inner_lr

    plots.use_style()
    fig, axes = plt.subplots(1, 2, figsize=inches, dpi=100, sharey=True)

    def draw(frame: int) -> None:
        for ax, method in zip(axes, outputs):
            style = plots.METHOD_STYLES[method]
            ax.clear()
            ax.plot(x, wave(x), color="black", linewidth=4, alpha=0.22)
            for earlier in range(frame):
                ax.plot(x, outputs[method][earlier], color=style["color"], linewidth=0.8, alpha=0.25)
            ax.plot(x, outputs[method][frame], color=style["color"], linewidth=2.2)
            triangles = {"color": plots.COLOURS["purple"], "markersize": 8, "markeredgecolor": "black"}
            ax.plot(points, wave(points), "^", **triangles)
            ax.set(xlabel="x (rad)", xlim=(-5, 5), ylim=(-6, 6))
            ax.set_title(
                f"{method}, α = {steps[method]}: step {frame:2d}, error {errors[method][frame]:5.2f}"
            )
        axes[0].set_ylabel("y")

    return fig, draw, len(outputs["MAML"]) - 1


WIDTH, HEIGHT, SKY = 300, 132, 46  # of a picture, in pixels, and how much of the sky above it is cut away
EVERY, FPS = 4, 12.5  # steps of the simulation from frame to frame, frames per second
EVERY_OF_TRIAL = 8  # which has two episodes, so that its film is no longer
FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def robot(target: Path, name: str, goal: float, reach: float) -> None:
    """A robot with one goal: an episode before, beside one after a gradient step on rollouts of its own.

    ``reach`` is how far, in m, the ruler under a picture extends each way.
    """
    row = paper.get(name)
    test, seed = row.evaluations[0], 1
    env, policy = policies.build(row, 1, test.rollouts)
    before, goals = policies.spread(parameters(name), 1), np.array([goal])
    tries = sample(env, policy, before, test.rollouts, (seed, 0), goals, drop_unfinished=True)
    after = maml_rl.adapt_each(
        policy, before, to_steps(tries, row.discount, clip=row.baseline_clip), test.inner_lrs[0]
    )
    again = sample(env, policy, after, test.rollouts, (seed, 1), goals, drop_unfinished=True)
    env.close()
    takes = [film(row, policy, params, goal) for params in (before, after)]
    words = [
        f"before: return {mean_returns(tries)[0]:.0f}",
        f"after one step: return {mean_returns(again)[0]:.0f}",
    ]
    words = [[text] * len(take) for text, take in zip(words, takes)]
    save(target, takes, (goal, goal), reach, words)


def trial(target: Path, name: str, reach: float) -> None:
    """Both episodes of a trial, forward and backward: one recurrent policy that is told neither."""
    row, goals, takes = paper.get(name), (1.0, -1.0), ([], [])
    keys = np.array([[1, 0], [1, 1]])
    tasks = GoalTrials(np.array(goals), keys, environment=row.family, episodes=row.episodes)
    env, play = tasks.env, tasks.step
    env.model.mat_reflectance[:] = 0

    def filmed(actions: torch.Tensor) -> memory.After:
        if next(times) % EVERY_OF_TRIAL == 0:
            for index, (take, goal) in enumerate(zip(takes, goals)):
                picture = env.frame(index, width=WIDTH, height=HEIGHT + SKY)[SKY:]
                take.append((picture, float(env.states[index, 0]), goal * math.inf))
        return play(actions)

    times, tasks.step = iter(range(tasks.time)), filmed
    noise = tasks.actions.noise(2, tasks.time, generator(1, "film"))
    policy = {key: value.float() for key, value in parameters(name).items()}
    returns = tasks.measured(memory.sample(policy, tasks, noise))["return"]
    env.close()
    frames = len(takes[0]) // row.episodes  # of an episode, which here never ends early
    words = [
        [f"{way}, episode {1 + at // frames}: return {each[at // frames]:.0f}" for at in range(len(take))]
        for way, each, take in zip(("forward", "backward"), returns, takes)
    ]
    save(target, takes, goals, reach, words)


def save(
    target: Path,
    takes: Sequence[list[tuple[np.ndarray, float, float]]],
    goals: Sequence[float],
    reach: float,
    words: Sequence[Sequence[str]],
) -> None:
    """Two takes side by side, each with its goal and, frame by frame, its words, as an animation."""
    sheets = []
    for pair, texts in zip(zip(*takes), zip(*words)):
        sheet = Image.new("RGB", (2 * WIDTH + 12, HEIGHT + 56), "white")
        for column, ((picture, x, aim), goal, text) in enumerate(zip(pair, goals, texts)):
            drawn = scene(picture, x, aim, goal, reach, text.replace("-", "−"))
            sheet.paste(drawn, (column * (WIDTH + 12), 0))
        sheets.append(sheet)
    palette = colours(sheets[::20])
    frames = [sheet.quantize(palette=palette, dither=Image.Dither.NONE) for sheet in sheets]
    each = round(1000 / FPS)
    frames[0].save(
        target,
        save_all=True,
        append_images=frames[1:],
        duration=[each] * (len(frames) - 1) + [1200],
        loop=0,
        optimize=True,
    )


def colours(sheets: list[Image.Image]) -> Image.Image:
    """A palette of 24 colours, half of its weight on what is not grey: the robot, the markers."""
    pixels = np.concatenate([np.asarray(sheet).reshape(-1, 3) for sheet in sheets])
    bright = pixels[np.ptp(pixels.astype(int), axis=1) > 40]
    weighted = np.concatenate([pixels, bright.repeat(max(1, len(pixels) // len(bright)), axis=0)])
    return Image.fromarray(weighted[None]).quantize(24)


def film(
    row: rows.PolicyRow, policy, params: dict[str, torch.Tensor], goal: float
) -> list[tuple[np.ndarray, float, float]]:
    """Pictures of an episode, where along x the robot is, and where it should be, in m.

    It should be where the goal velocity would have taken it by then, or as far as it gets in the goal
    direction. A fallen robot stays as it is.
    """
    env = envs.make(row.environment, np.array([goal]), threads=1)
    env.model.mat_reflectance[:] = 0  # a mirror image on the floor would cost a third of the file
    observations, _ = env.reset(seed=1)
    noise = np.random.default_rng(1)
    std = params["log_std"][0].exp().numpy()
    frames = []
    for step in range(env.horizon):
        if step % EVERY == 0:
            aim = goal * step * env.model.opt.timestep if isinstance(env.task, Velocity) else goal * math.inf
            frames.append(
                (env.frame(0, width=WIDTH, height=HEIGHT + SKY)[SKY:], float(env.states[0, 0]), aim)
            )
        mean = policy.mean(
            {k: v[0] for k, v in params.items()}, torch.from_numpy(observations).float()
        ).numpy()
        observations, *_ = env.step(mean + std * noise.standard_normal(mean.shape))
    env.close()
    return frames


def scene(picture: np.ndarray, way: float, aim: float, goal: float, reach: float, text: str) -> Image.Image:
    """A picture, text above it, and below a ruler with the way that the robot has, and should have, come.

    All lengths are in m.
    """
    whole = Image.new("RGB", (WIDTH, HEIGHT + 56), "white")
    whole.paste(Image.fromarray(picture), (0, 24))
    draw, font, small = ImageDraw.Draw(whole), ImageFont.truetype(FONT, 13), ImageFont.truetype(FONT, 10)
    draw.text((4, 3), text, fill="black", font=font)
    at = lambda x: WIDTH * (0.5 + 0.44 * np.clip(x / reach, -1, 1))
    level = HEIGHT + 34
    draw.line((at(-reach), level, at(reach), level), fill="#7F7F7F")
    for x in np.linspace(-reach, reach, 5):
        draw.line((at(x), level, at(x), level + 4), fill="#7F7F7F")
        draw.text((at(x), level + 6), f"{x:g} m".replace("-", "−"), fill="#404040", font=small, anchor="ma")
    tip, tail = at(aim), at(aim) - math.copysign(8, goal)
    draw.polygon([(tip, level), (tail, level - 4), (tail, level + 4)], fill="#D55E00")
    draw.ellipse((at(way) - 4, level - 4, at(way) + 4, level + 4), fill="#0072B2")
    return whole


FILMS: dict[str, Callable[[Path], None]] = {
    "sinusoid": sinusoid,
    "preview": preview,
    "half-cheetah": partial(robot, name="half-cheetah-direction-maml-first-order", goal=1.0, reach=4.0),
    "half-cheetah-trial": partial(trial, name="half-cheetah-direction-rl2", reach=8.0),
    "ant": partial(robot, name="ant-velocity-maml", goal=2.0, reach=8.0),
}


def main(names: list[str]) -> int:
    """Make the named films; the exit status tells whether all went well."""
    if not names or set(names) - set(FILMS):
        print(f"usage: python book/films.py NAME...; the films are {', '.join(FILMS)}", file=sys.stderr)
        return 2
    FOLDER.mkdir(exist_ok=True)
    for name in names:
        still = FOLDER.parent / "_static" / f"{name}.png"
        path = still if name == "preview" else FOLDER / f"{name}.gif"
        FILMS[name](path)
        size = path.stat().st_size
        print(f"{path}: {size / 1000:.0f} kB")
        if size > LIMIT:
            print(
                f"{path} is larger than {LIMIT / 1000:.0f} kB; use fewer frames or a smaller figure",
                file=sys.stderr,
            )
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
