# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Mini-ImageNet
#
# ```{admonition} This chapter
# - **claims** four things:
#   1. The weights that the authors published are 1.9 ± 2.0 points below the paper's number on 3,000 test tasks, which chance can just explain.
#   2. Our own 5-way 1-shot training ends at the paper's number, within the intervals of both.
#   3. Our runs and simple baselines stand beside the lower half of Table 1.
#   4. The first-order gradient, which in the paper does about as well, points in another direction than MAML's, on one meta-batch.
# - **takes** about a minute on two CPU cores; a run at the paper's scale takes half a day or longer, and its results are
#   committed;
# - **assumes** [chapter 1](01-twenty-lines.ipynb), and what [chapter 3](03-omniglot.ipynb) says of tasks, of the
#   inner loss and of batch normalisation.
# ```

# %% tags=["hide-input"]
import dataclasses
import json
import math
from itertools import product

import matplotlib.pyplot as plt
import pandas as pd
import torch
import torch.nn.functional as F

from mamlkit import measures, methods, places, tasks
from mamlkit.engine import meta_batch
from mamlkit.experiments import paper
from mamlkit.report import (
    notebook,
    pages,
    plots,
    plots_images,
    results,
    texts,
    trap_effects,
)
from mamlkit.runs import devices, seeds, supervised, train
from mamlkit.tasks.images import nearest_neighbour_accuracy

devices.set_up("cpu")
plots.use_style()
real = tasks.mini_imagenet.available()
row = paper.get("mini-imagenet-5way-1shot" if real else "textures-5way-1shot")
released = paper.get("mini-imagenet-released")

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-mini-task"}, "image": {"alt": "Five columns of coloured pictures, one class each, under the headings class 0 to class 4. In each column the pattern is the same, while place, size, light and background differ from row to row.", "width": "480px"}}
pictures = tasks.make("textures", "test", ways=5, shots=1, queries=2)
task = pictures.sample(seeds.generator(1, "a picture"), 1)
columns = [task.support[0].view(5, 1, 3, 84, 84), task.query[0].view(5, 2, 3, 84, 84)]
sheet = torch.cat(columns, 1).transpose(0, 1).movedim(2, -1)  # channels last
fig, axes = plt.subplots(3, 5, figsize=(5.4, 3.4), dpi=72)
for line, row_axes in enumerate(axes):
    for column, ax in enumerate(row_axes):
        ax.imshow(sheet[line, column])
        ax.set(xticks=[], yticks=[])
        if line == 0:
            ax.set_title(f"class {column}")
    row_axes[0].set_ylabel("support" if line == 0 else f"query {line}")
plt.show()

# %% [markdown] tags=["caption"]
# A 5-way 1-shot task, of the stand-in *Textures* (pictures of ImageNet may not be handed on). Top row: the support, one picture of
# each class. Below: two queries of each class.

# %% tags=["hide-input"] mystnb={"markdown_format": "myst"}
with_data = """This page was built with **Mini-ImageNet**.
What it measures live is Mini-ImageNet; only the short training is on the stand-in.
Its pictures are not shown: the terms of ImageNet do not allow to hand them on."""
without_data = """This page was built without Mini-ImageNet.
What it trains and measures live is **Textures**: as many classes of coloured pictures,
drawn by a program (`mamlkit.tasks.textures`). Live numbers therefore say how MAML does,
not whether the paper's are right. Committed results, and the tables that hold them,
are always Mini-ImageNet. `python -m mamlkit data mini-imagenet` says how to get it."""
notebook.box(
    with_data if real else without_data,
    "note" if real else "warning",
    "Data of this page",
)

# %% [markdown]
# ## What the paper claims
#
# Section 5.2 and the lower half of Table 1 of {cite:t}`finn2017maml`: photographs of one hundred kinds of things, 84 × 84
# pixels in colour. MAML gets 48.70 ± 1.84 % of the queries of 5-way 1-shot tasks right and 63.11 ± 0.92 % in 5-shot
# tasks, above matching nets and the meta-learner LSTM {cite:p}`ravi2017optimization`. Leaving out the second
# derivatives costs next to nothing: 48.07 ± 1.75 % and 63.15 ± 0.91 %.
#
# ## The data
#
# Mini-ImageNet is a part of ImageNet: 100 classes of 600 photographs each, reduced to 84 × 84 pixels without regard
# to their proportions. The paper and the slides {cite:p}`azayev2019slides` speak of 64 classes to train, 12 to
# validate and 24 to test. The files of {cite:t}`ravi2017optimization`, which the authors' code reads, hold
# **64, 16 and 20**, and these we take. Pixels are divided by 255; there is no other preparation, and nothing is turned or
# mirrored.

# %% tags=["hide-input"] mystnb={"markdown_format": "myst"}
source = tasks.mini_imagenet if real else tasks.textures
banks = {split: source.load(split) for split in ("train", "val", "test")}
lines = []
for split, bank in banks.items():
    classes, images, channels, height, width = bank.shape
    line = {"split": split, "classes": classes, "images of each": images}
    lines.append(line | {"shape": f"{channels} × {height} × {width}"})
of_data = "Mini-ImageNet" if real else "Textures, the stand-in"
caption = f"The data of this page by split: {of_data}."
notebook.table(pd.DataFrame(lines), caption, "tab-mini-splits")

# %%
names = [set(bank.names) for bank in banks.values()]
different = len(set.union(*names))
notebook.check("no class is in two splits", different, "==", sum(map(len, names)))
notebook.check("64, 16 and 20 classes", list(map(len, names)) == [64, 16, 20])

# %% [markdown]
# ## The network
#
# Four convolutions of 32 filters, each followed by batch normalisation, a ReLU and a 2 × 2 maximum; then all 5 × 5 × 32
# values go into the head. So it differs from Omniglot's: stride 1 and pooling in place of stride 2, half the filters "to
# reduce overfitting", and a head that starts from Xavier's distribution, not from $\mathcal{N}(0, 1)$. Batch
# normalisation is the same: statistics of the batch at hand, a shift, no scale.

# %%
model = supervised.build(paper.get("mini-imagenet-5way-1shot")).model
total = sum(math.prod(shape) for shape in model.shapes.values())
notebook.check("parameters, as in the authors' code", total, "==", 32_773)

# %% [markdown]
# Two settings are in the code and not in the paper. The meta-loss is a *sum* over the 75 queries divided by the shots
# (see {eq}`eq-omniglot-readings`), and each component of its gradient is cut to [−10, 10]. Adam does not care about the factor, but the
# cut does: on the scale of the mean loss it is one to [−0.13, 0.13] in 1-shot tasks, and to [−0.67, 0.67] in 5-shot tasks.
#
# (mini-released)=
# ## The authors' own weights
#
# In 2018 the authors published the parameters of one of their 5-way 1-shot runs
# ([cbfinn/maml](https://github.com/cbfinn/maml), commit `1882826`, MIT licence). They come with this package. First: do we read
# them correctly? Five images made by a formula go through our network; the logits must be those that an independent
# reading of the file gives (in double precision, by NumPy alone).

# %%
theta = supervised.build(released).model.init(seeds.generator(0, "init"))
n, h, w, c = torch.meshgrid(*map(torch.arange, (5, 84, 84, 3)), indexing="ij")
formula = ((17 * n + 31 * h + 7 * w + 101 * c + 13 * h * w) % 256) / 255
with torch.no_grad():
    logits = model.apply(theta, formula.movedim(-1, 1))
first = torch.tensor([6.234938, 6.533214, 5.576506, 7.748586, 6.946607])
off = (logits[0] - first).abs().max()
notebook.check("logits of the first image agree", off, "<", 1e-4)

# %% [markdown]
# Then the test. It is the ordinary machinery of this book: a row of the table of experiments that is trained for no
# iteration and begins with these weights, tested on 600 tasks of the 20 test classes.

# %% tags=["hide-input"] mystnb={"markdown_format": "myst"}
words = {
    "Q=1": "1 query per class: the authors' test",
    "Q=5": "5 queries per class",
    "Q=15": "15 queries per class, as in training",
    "Q=1, support statistics": "1 query, mean and variance of the support",
    "Q=15, support statistics": "15 queries, mean and variance of the support",
    "Q=1, alpha on the mean": "1 query per class, but α = 0.01 on the *mean* loss",
}
found = {
    test: {
        k: results.summary(released.name, test, k, "accuracy") for k in (0, 1, 3, 5, 10)
    }
    for test in words
}
lines = []
for test, of_step in found.items():
    numbers = {
        f"after {k}": texts.number(ours.value, ours.ci95) if ours else "not run"
        for k, ours in of_step.items()
    }
    lines.append({"test": words[test]} | numbers)
notebook.table(
    pd.DataFrame(lines),
    "The authors' weights: test accuracy in % after so many inner steps.",
    "tab-mini-released",
)

# %% [markdown]
# 600 tasks of five queries leave an interval of almost two points to either side. So the authors' test is done once more on 3,000
# tasks, of which these are the first 600:

# %% tags=["hide-input"] mystnb={"markdown_format": "myst"}
more = f"{released.name}-3000-tasks"
lines = []
for words_of_line, place in {
    "ours, 600 tasks": (released.name, "Q=1", 10, "accuracy"),
    "ours, 3,000 tasks": (more, "Q=1", 10, "accuracy"),
}.items():
    ours = results.summary(*place)
    line = {"test": words_of_line, "accuracy, %": "not run", "less the paper's": ""}
    if ours:
        line["accuracy, %"] = texts.number(ours.value, ours.ci95)
        ci95 = math.hypot(ours.ci95, 1.84)
        line["less the paper's"] = texts.number(ours.value - 48.70, ci95, signed=True)
        line["origin"] = ours.origin
    lines.append(line)
lines.append({"test": "the paper, 600 tasks", "accuracy, %": "48.70 ± 1.84"})
notebook.table(
    pd.DataFrame(lines),
    "The authors' weights in the authors' test, after ten steps.",
    "tab-mini-headline",
)

# %%
if ours:  # on 3,000 tasks
    below = 48.70 - 1.84 - ours.value
    notebook.check("below the paper's interval, in points", below, ">", 0)
    notebook.check("and not far below", below, "<", 0.5)
    away = 48.70 - ours.value
    notebook.check("points below the paper's number", away, "<", 2)
    text = "in intervals of the difference from it"
    notebook.check(text, away / math.hypot(ours.ci95, 1.84), "<=", 1)

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-mini-released"}, "image": {"alt": "Two plots of test accuracy over inner steps. First, three curves that lie on each other start at 20 percent and rise within four steps to about 46; the star of the paper is at 48.7. Second, the curve of the shorter step rises later and ends as high."}}
curves = {
    test: plots.mean_curve(results.load(released.name), test, "accuracy")
    for test in words
}
fig, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.1), sharey=True)
by_queries = {"1 query": "Q=1", "5 queries": "Q=5", "15 queries": "Q=15"}
plots_images.accuracy_curves(
    left, {k: curves[v] for k, v in by_queries.items()}, chance=20
)
by_step = {"0.01 on the sum": "Q=1", "0.01 on the mean": "Q=1, alpha on the mean"}
plots_images.accuracy_curves(
    right, {k: curves[v] for k, v in by_step.items()}, chance=20
)
for ax in (left, right):
    star = {"marker": "*", "markersize": 9, "linestyle": "none", "color": "black"}
    ax.errorbar(10, 48.70, yerr=1.84, label="paper", zorder=5, **star)
    ax.legend(loc="lower right", bbox_to_anchor=(1, 0.2))  # above "chance"
left.set(ylim=(15, 55), xlim=(-0.4, 10.4))
right.set(ylabel="", xlim=(-0.4, 10.4))
plt.show()

# %% [markdown] tags=["caption"]
# The authors' weights after 0 to 10 inner steps (bands: 95 % intervals over 600 tasks); the star is the paper's number. First panel: by
# the number of queries per class that are normalised together. Second: by the reading of the inner step.

# %% [markdown]
# What to take from it:
#
# - **The protocol is not contradicted.** The weights are the authors'; network, engine, tasks and decoded images are ours. On 3,000 tasks
#   the interval of the difference from the paper holds zero; on one draw of 600 it does not. Whether the rest is chance, or a detail that we miss, is not known. That this
#   very snapshot made the printed number, nobody says.
# - **600 tasks are few.** On 3,000 tasks the number is known to less than a point, and it lies just below the paper's interval.
#   Two trials before this book, with programs that are not here any more, had 48.5 and 48.6 % on other draws of 600 tasks with the same weights. (They cannot be re-derived, and are no results of this book.) Each of them lies less than
#   two standard errors above our 3,000 tasks, so either can be the luck of a draw ([chapter 8](08-traps.ipynb) shows ten). Both together lie more than two above, and with 15 queries the
#   first of these programs gave 46.3 ± 0.8 %, as ours does. So a systematic difference with one query cannot be excluded.
#   Somebody who trained with the authors' code reports 46.4 %, and does not say on which classes ([cbfinn/maml #32](https://github.com/cbfinn/maml/issues/32)).
# - **The number of queries** per class that are normalised together changes nothing that 600 tasks could tell, with *these* weights, which were trained with 15. So an effect
#   of one or two points is not excluded.
# - **Whose mean and variance** a query gets is the other choice of a test, and its effect is below.
# - **The step is 0.01 on the sum.** On the mean, as most libraries have it, the network adapts visibly more slowly, but ten steps
#   make up for it: a test alone does not find this mistake. What it does to *training* is another matter.
#
# The wide interval of the paper speaks for one query as well: 600 tasks of five queries at 48.7 % give
# ± $1.96 \sqrt{0.487 \cdot 0.513 / 3000} = 1.8$ %; with 75 independent queries it would be
# 0.5 %. They are not independent: {numref}`tab-mini-released` has the real one, 0.7.
#
# ### Other statistics
#
# The authors' test normalises the queries of a task by their own mean and variance (*transduction*). If they get those of the support instead, no query
# matters to another. PyTorch's `model.eval()` would take running averages, and what these weights give with them cannot be known:
# the published file has none, since the authors' network never recorded any. (Somebody could record some now, as
# [chapter 8](traps-live) does for Omniglot. They would not be the authors'.)

# %% tags=["hide-input"] mystnb={"markdown_format": "myst"}
kinds = {name.rstrip("0123") for name in theta}
only = kinds == {"conv", "bias", "shift", "head", "head_bias"}
notebook.check("the file has weights, biases and shifts, nothing else", only)
lines = []
for test, of in {"Q=1": "1 query per class", "Q=15": "15 queries per class"}.items():
    place = released.name, released.name, f"{test}, support statistics", test
    if change := trap_effects.effect(*place):
        points = trap_effects.effect_words(change)
        lines.append(f"- {of}: {points} points, which says: {change.word}.")
text = "Support in place of batch, after ten steps, on the same tasks and queries:\n\n"
text = text + "\n".join(lines) if lines else "Not run."
notebook.box(text, title="What transduction is worth to the authors' weights")

# %% [markdown]
# ### Evaluated again
#
# Where Mini-ImageNet is at hand, the first 100 of the committed tasks are tested again here: not the mean, but every single task must be the committed one. (Two
# processors round differently, and one query in some thousands may lie so near to the border of two classes that this decides.)

# %% mystnb={"markdown_format": "myst"}
if real and results.load(released.name):
    kept = results.per_task_errors(released.name, 0, "Q=1", "accuracy")[:100]
    again = supervised.evaluate(released, theta, released.evaluations[0], n_tasks=100)
    again = again["accuracy"][:, [k for k in measures.STEPS_KEPT if k <= 10]]
    other = int((abs(again - kept) > 1).sum())
    text = "tasks whose accuracy is another one, summed over five steps"
    notebook.check(text, other, "<=", 3)
    text = f"""Of {again.size} accuracies, of 100 tasks after 0, 1, 3, 5 and 10 steps,
{again.size - other} are the committed ones."""
else:
    text = (
        "Not done on this page, since Mini-ImageNet is not here; see the numbers above."
    )
notebook.box(text, title="Re-evaluation")

# %% [markdown]
# That says that the package still does what it did. Whether it did right, only another program can say. The package's tests have one
# (`tests/models/test_released.py`): it reads the file of weights by itself, and adapts one task after the other with `torch.autograd.grad`.
# On drawn pictures its outputs are those of the package after each of ten steps, and where Mini-ImageNet is at hand it gives the committed accuracies of the first tasks, task by task.
# So what is missing to 48.7 % is no slip in the package's network, in its engine, or in its reading of the weights. What both programs share is not tested in this way: the
# decoded images, the draw of the tasks, and the reading of the authors' settings.

# %% [markdown]
# ## Our runs beside the paper
#
# The lower half of Table 1. A run takes half a day or longer on one core (the [results page](../book/results.md) has estimates for an idle one);
# an unfinished one is *partial*: its difference says how far it is from the paper yet, and decides nothing. One that has begun, and of which nothing is tested yet, has no number.
# The two baselines are other programs than the paper's, so they are *not judged*; our fine-tuning in 5-shot tasks is 5.8 points below the paper's.

# %% tags=["hide-input"] mystnb={"markdown_format": "myst"}
notebook.table(
    pages.chapter_table("mini-imagenet"),
    "Table 1 of the paper, Mini-ImageNet: accuracy in %, ± 95 % over test tasks.",
    "tab-mini-rows",
)

# %%
ours = results.summary("mini-imagenet-pretrained", "5-shot", 10, "accuracy")
if ours:
    below = 49.79 - ours.value
    text = "5-shot fine-tuning: points below the paper's, to one decimal"
    notebook.check(text, round(below, 1), "==", 5.8)

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-mini-training"}, "image": {"alt": "Curves of validation accuracy over iterations, on an axis that ends at 60,000, with a dashed line at the paper's accuracy. A run that has not come to its end stops before the right edge."}}
logs = {1: {}, 5: {}}
for shots, kind in product(logs, ("", "-first-order")):
    log = results.training_log(f"mini-imagenet{kind}-5way-{shots}shot")
    log = log.dropna(subset=["validation"]).set_index("iteration")
    if len(log):
        curve = pd.DataFrame({"value": log.validation, "ci95": 0.0})
        logs[shots]["MAML, first order" if kind else "MAML"] = curve
shown = [shots for shots in logs if logs[shots]] or [1]
size = (3.6 * len(shown) + 1.6 * (len(shown) == 1), 3.1)
fig, axes = plt.subplots(1, len(shown), figsize=size, squeeze=False)
for ax, shots in zip(axes.flat, shown):
    plots_images.accuracy_curves(ax, logs[shots], along="iteration", chance=20)
    target = {1: 48.70, 5: 63.11}[shots]
    ax.axhline(target, color="black", linestyle="--", linewidth=1, label="paper, test")
    for i, kind in enumerate(logs[shots]):
        kind = "-first-order" if "first" in kind else ""
        tested = results.summary(
            f"mini-imagenet{kind}-5way-{shots}shot", "Q=K", 10, "accuracy"
        )
        if tested:
            label = "our test" if i == 0 else None
            ax.plot(tested.done, tested.value, "o", color="black", ms=5, label=label)
    ax.set(xlim=(0, 61_500), ylim=(15, 70), title=f"5-way {shots}-shot")
    ax.set_xticks(range(0, 60_001, 20_000))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.legend(loc="lower right", bbox_to_anchor=(1, 0.2))  # above "chance"
plt.show()

# %% [markdown] tags=["caption"]
# Accuracy on 200 validation tasks in the course of our runs, up to the paper's number of iterations, as far as each has come, also where nothing of it is tested yet; what was
# never begun has no panel and no curve. The tasks have one query per class (1-shot) or five (5-shot). Each point is known
# to about ± 3 (1-shot). Dots: the accuracy of our last committed test, where there is one. Dashed: the paper's test accuracy.

# %% tags=["hide-input"] mystnb={"markdown_format": "myst"}
name = "mini-imagenet-5way-1shot"
ours = {test: results.summary(name, test, 10, "accuracy") for test in ("Q=K", "Q=15")}
theirs = results.summary(released.name, "Q=15", 10, "accuracy")
text = "Not run."
if all(ours.values()) and ours["Q=K"].done == ours["Q=K"].total:
    here = {test: texts.number(found.value, found.ci95) for test, found in ours.items()}
    text = f"""At its end our 5-way 1-shot network has {here["Q=K"]} %
with the paper's one query per class, and {here["Q=15"]} % with 15, which on as many
tasks is known better. There the authors' weights have
{texts.number(theirs.value, theirs.ci95)} %."""
    off = abs(ours["Q=K"].value - 48.70) / math.hypot(ours["Q=K"].ci95, 1.84)
    notebook.check("away from the paper's, in intervals of the difference", off, "<", 1)
notebook.box(text, title="One training, to its end")

# %% tags=["hide-input"] mystnb={"markdown_format": "myst"}
name = "mini-imagenet-first-order-5way-1shot"
tested, log = results.summary(name, "Q=K", 10, "accuracy"), results.training_log(name)
planned = paper.get(name).iterations
validated = log.dropna(subset=["validation"])
if tested:
    value = texts.number(tested.value, tested.ci95)
    text = f"""With the paper's settings: {value} % with one query
per class, after {tested.done:,} of {planned:,} iterations."""
elif len(validated):
    last = validated.iloc[-1]
    text = f"""With the paper's settings: begun and not tested. The committed log
goes to iteration {log.iteration.max():,.0f} of {planned:,}; the last validation, after
{last.iteration:,.0f}, gave {last.validation:.1f} %."""
else:
    text = "With the paper's settings: not begun."
short = [f"compare-mini-imagenet-5way-1shot-{kind}" for kind in ("first-order", "maml")]
change = trap_effects.effect(*short, "Q=15")
if change:
    (first, _), (whole, _) = change.sides
    seeds_of = f"{len(change.seeds)} seed" + "s" * (len(change.seeds) > 1)
    episodes = paper.get(short[0]).iterations * paper.get(short[0]).meta_batch_size
    text += f"""\n\nIn a short training of chapter 9, of
{episodes:,} episodes: {first:.1f} %, and MAML's {whole:.1f} %, with 15 queries per
class ({seeds_of}; {trap_effects.effect_words(change)} points, ± over test tasks
alone)."""
notebook.box(text, title="First order, ours")

# %% [markdown]
# ## How well do simpler things do?
#
# Baselines that need no other paper's method:
#
# - **Pixels**: the label of the support image that differs least, pixel by pixel. **Random initialisation**: MAML's
#   network untrained, adapted like the trained one.
# - **Nearest neighbour** on features: one ordinary classifier of all 64 training classes; its last hidden layer, 800 values,
#   describes an image, and a {term}`query <support, query>` gets the label of the support image whose description makes the smallest angle with its own.
# - **Fine-tuning**: the same classifier gets a fresh head for the five classes, and everything is trained on by
#   gradient steps on the support. Their rate is what was best on tasks of the validation classes ({numref}`tab-mini-tuning`).
#
# {cite:t}`ravi2017optimization` have 41.08 ± 0.70 and 28.86 ± 0.54 % for the last two (1-shot), which the paper quotes.
# That fine-tuning does so much worse than the features it begins with has probable reasons in their code: the fresh head is
# random, *all* layers move with it, and the test uses running averages of batch normalisation, of which 15 steps leave a fifth as it was.
# Ours, in the same table, has MAML's network, the statistics of the batch, and ten steps.

# %% tags=["hide-input"] mystnb={"markdown_format": "myst"}
baselines = {
    "pixels": [("mini-imagenet-pixels", f"{k}-shot", 0) for k in (1, 5)],
    "random initialisation, 10 steps": [
        (f"mini-imagenet-random-5way-{k}shot", "Q=15", 10) for k in (1, 5)
    ],
    "nearest neighbour on features": [
        ("mini-imagenet-pretrained", f"{k}-shot", 0) for k in (1, 5)
    ],
    "fine-tuning, 10 steps": [
        ("mini-imagenet-pretrained", f"{k}-shot", 10) for k in (1, 5)
    ],
    "the authors' MAML weights": [(released.name, "Q=15", 10), None],
}
lines = []
for words, where in baselines.items():
    line = {"method": words}
    for shots, place in zip((1, 5), where):
        ours = results.summary(*place, "accuracy") if place else None
        missing = "not run" if place else ""
        line[f"{shots}-shot"] = texts.number(ours.value, ours.ci95) if ours else missing
    lines.append(line)
notebook.table(
    pd.DataFrame(lines),
    "Baselines, ours: accuracy in % on the test classes, 15 queries per class.",
    "tab-mini-baselines",
)

# %% tags=["hide-input"] mystnb={"markdown_format": "myst"}
kept = places.repository() / "data" / "benchmarks" / "fine-tuning"
tried = pd.read_csv(kept / "accuracy.csv")
origin = json.loads((kept / "origin.json").read_text())
lines = [
    {"tasks": name}
    | {f"rate {at.rate:g}": texts.number(at.value, at.ci95) for at in part.itertuples()}
    for name, part in tried.groupby("test")
]
notebook.table(
    pd.DataFrame(lines),
    f"Fine-tuning after {tried.steps[0]} steps, on {tried.tasks[0]} tasks of the "
    "validation classes: accuracy in %. A rate is a step on the sum over five classes. "
    f"Seed 0; commit {origin['commit'][:7]}, {origin['date']}, {origin['device']}.",
    "tab-mini-tuning",
)

# %%
for k in (1, 5):
    features, tuned = (
        results.summary("mini-imagenet-pretrained", f"{k}-shot", step, "accuracy")
        for step in (0, 10)
    )
    text = f"{k}-shot: nearest neighbour on features less fine-tuning, at least, points"
    least = features.value - tuned.value - features.ci95 - tuned.ci95
    notebook.check(text, least, ">", 3)

# %% [markdown]
# In 1-shot and in 5-shot tasks the nearest neighbour on the features does better than ten steps of fine-tuning from the same classifier. How much of this is the fresh
# head, and how much the change of the features, is not measured. (`python benchmarks/fine_tuning.py --save` tries the rates.)
#
# ## A live run
#
# In half a minute nothing can be learned about photographs, so what is trained live is always the stand-in. Its quick scale is
# the same row with fewer filters, queries and inner steps, and larger outer steps:

# %%
quick = paper.get("textures-5way-1shot").at("quick")
fit = train.fit(quick, validate=False)
test = dataclasses.replace(quick.evaluations[0], inner_steps=10)
untrained = supervised.build(quick).model.init(seeds.generator(0, "init"))
networks = {"MAML, quick": fit.params, "random initialisation": untrained}
n_tasks, accuracy = 100, {}
for name, start in networks.items():
    errors = supervised.evaluate(quick, start, test, n_tasks=n_tasks, seed=1)
    accuracy[name] = errors["accuracy"][:, test.headline_step]
size = {"ways": quick.ways, "shots": test.shots, "queries": test.queries}
pairs = tasks.make(quick.family, "test", **size)
batch = pairs.sample(seeds.generator(1, "nearest neighbour"), n_tasks)
accuracy["nearest neighbour on pixels"] = (
    100 * nearest_neighbour_accuracy(batch).numpy()
)


# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"markdown_format": "myst"}
setting = f"{quick.ways}-way {test.shots}-shot"
lines = [
    {setting: name, "accuracy, %": texts.number(*measures.interval(values))}
    for name, values in accuracy.items()
]
lines.append({setting: "guessing", "accuracy, %": f"{100 / quick.ways:.3g}"})
caption = (
    f"The live run on {n_tasks} test tasks: queries per class {test.queries}, after "
    f"{test.headline_step} steps."
)
notebook.table(pd.DataFrame(lines), caption, "tab-mini-quick")

# %%
ours, ours_ci95 = measures.interval(accuracy["MAML, quick"])
pixels, pixels_ci95 = measures.interval(accuracy["nearest neighbour on pixels"])
notebook.check("pixels: below 40 %", pixels, "<", 40)
least = ours - pixels - math.hypot(ours_ci95, pixels_ci95)
text = "MAML: 5 points above pixels, at the lower end of the interval"
notebook.check(text, least, ">", 5)

# %% [markdown]
# ## What the second derivatives are worth
#
# In the paper the first-order approximation is as good as MAML on Mini-ImageNet (48.07 and 48.70 %, one run each, ± 2.5 on the difference). How far our own has come is said above. It is tempting to conclude that the
# second-order term is small. It is not. Below are both meta-gradients of *one* meta-batch of two tasks, of the data that this page was built with, with the authors' five inner steps:
# the cosine of the angle between them, and how long the whole one is in units of the first-order one.

# %%
family = tasks.make(row.family, "train", ways=5, shots=1, queries=15)
batch = family.sample(seeds.generator(0, "cosine"), 2)
untrained = model.init(seeds.generator(0, "init"))
angles = {}
for place, start in {"untrained": untrained, "the authors' weights": theta}.items():
    for alpha in (0.01, 0.001):
        settings = {"inner_lr": alpha, "inner_steps": 5}
        learner = dataclasses.replace(supervised.build(released), **settings)
        pair = []
        for method in (methods.maml, methods.first_order_maml):
            gradient, _ = meta_batch.meta_gradient(method(learner), start, batch)
            pair.append(torch.cat([gradient[name].flatten() for name in start]))
        ratio = float(pair[0].norm() / pair[1].norm())
        angles[place, alpha] = float(F.cosine_similarity(*pair, dim=0)), ratio

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"markdown_format": "myst"}
lines = [
    {"at": at, "α": alpha, "cosine": f"{cosine:.2f}", "ratio of norms": f"{ratio:.1f}"}
    for (at, alpha), (cosine, ratio) in angles.items()
]
notebook.table(
    pd.DataFrame(lines),
    "MAML's meta-gradient against its first-order approximation, on one meta-batch of "
    f"two tasks of {'Mini-ImageNet' if real else 'Textures, the stand-in'}.",
    "tab-mini-angles",
)

# %%
early, early_ratio = angles["untrained", 0.01]
late, _ = angles["the authors' weights", 0.01]
notebook.check("untrained: cosine", early, "<", 0.4)
text = "untrained: the whole gradient is over 3 times as long"
notebook.check(text, early_ratio, ">", 3)
notebook.check("the authors' weights: cosine below 0.9", late, "<", 0.9)
notebook.check("and above 0.1", late, ">", 0.1)
shorter = min(
    angles[place, 0.001][0] for place in ("untrained", "the authors' weights")
)
notebook.check("with a tenth of the step: both cosines", shorter, ">", 0.75)

# %% [markdown]
# At the beginning of training the two have next to nothing in common, and the whole gradient is several times as long. At the authors' own weights they still point in clearly
# different directions. Only with a tenth of the step do they agree. So at these settings, and on these tasks, the first-order method is no *approximation*
# of MAML's gradient. (The network and the steps are the paper's; the tasks are those that {numref}`tab-mini-angles` names.) In the paper, first-order MAML takes another path and ends as well. The paper's sentence, that most of
# the improvement comes from the gradients at the updated parameters, describes this end and not the gradients. On *Glyphs* the angle is as wide
# ([an exercise](03-omniglot.ipynb)). What the first-order gradient costs in a short training on Omniglot, three seeds of [chapter 8](08-traps.ipynb) leave open; of Mini-ImageNet, [chapter 9](09-where-maml-stands.ipynb) has a short training.

# %% [markdown]
# ## Summary
#
# - The published weights come to just below the paper's interval, on 3,000 tasks within two points of its number ({numref}`tab-mini-headline`), with one query per class, ten
#   steps and α on the summed loss. Of these three the paper's text leaves out the number of queries.
# - Our own 5-way 1-shot training, one seed, ends within the paper's interval; of the other rows {numref}`tab-mini-rows` says how far they have come.
# - In the paper first-order MAML is as good, within ± 2.5 points, although its gradient points elsewhere ({numref}`tab-mini-angles`); the box *First order, ours* says how far our own has come.
#
# What each trap costs, here and on Omniglot, is measured in [chapter 8](08-traps.ipynb).
#
# ## Exercises
#
# ```{exercise}
# :label: ex-mini-count
#
# Count the parameters with pencil and paper. How many of them has the head, and how would that change with Omniglot's mean
# over the last pixels?
# ```

# %% [markdown]
# ```{solution-start} ex-mini-count
# :label: sol-mini-count
# :class: dropdown
# ```
#
# A block has $9 \cdot 32\, c$ weights for $c$ input channels, 32 biases and 32 shifts. Sizes go 84, 42, 21, 10, 5, since an odd
# row is left out by the 2 × 2 maximum.

# %%
blocks = sum(9 * 32 * channels + 32 + 32 for channels in (3, 32, 32, 32))
head = 5 * (5 * 5 * 32 + 1)
notebook.check(f"{blocks:,} + {head:,} parameters", blocks + head, "==", total)

# %% [markdown]
# An eighth is in the head. With the mean it would have 5 · (32 + 1) = 165.

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise}
# :label: ex-mini-queries
#
# The paper's interval is ± 1.84 for 600 tasks. How many tasks would halve it, and how many queries per class would, if queries were
# independent? Why is the second no way to the same number?
# ```

# %% [markdown]
# ```{solution-start} ex-mini-queries
# :label: sol-mini-queries
# :class: dropdown
# ```
#
# The interval is $1.96 \sqrt{p (1 - p) / (600 \cdot 5 Q)}$ as long as queries are independent: four times the tasks, 2,400, or four
# queries per class. But queries are normalised together. With four per class it is another batch, and so another
# classifier; {numref}`tab-mini-released` shows what that does here.

# %% [markdown]
# ```{solution-end}
# ```
