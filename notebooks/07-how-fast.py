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
# # How fast can a meta-gradient be
#
# ```{admonition} This chapter
# - **claims** that a meta-gradient needs no graph of the whole adaptation and no loop over tasks: a recursion with
#   Hessian-vector products gives the same numbers, as exactly, and on a CPU, on the five shapes of {numref}`tab-how-fast`, faster
#   than the four other ways that we tried;
# - **takes** about a quarter of a minute on two CPU cores;
# - **assumes** chapter 1 and, for the part on convolutions, chapter 3.
# ```

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-how-fast"}, "image": {"alt": "Five horizontal bars, each named by its shape, which end between two and eighteen times the time of mamlkit, beyond a dashed line at one. The longest are those of the two small networks."}}
import matplotlib.pyplot as plt
import pandas as pd

from mamlkit import places
from mamlkit.report import plots

folder = places.repository() / "data" / "benchmarks"
WIDE = "cpu-avx512"  # two threads with vectors of 512 bits
OTHERS = ("loop", "learn2learn", "higher", "torchopt", "torch.func vmap")


def compared(machine):
    """Milliseconds by shape and way, the time of the fastest other, the ways' names."""
    measured = pd.read_csv(folder / machine / "time.csv")
    ms = measured.pivot(index="shape", columns="way", values="ms").loc[
        measured["shape"].unique()
    ]
    others = [way for way in OTHERS if way in ms]
    shown = ["mamlkit", *others, "matrix-product limit"]
    return ms, ms[others].min(axis=1), shown


plots.use_style()
ms, fastest, _ = compared(WIDE)
gain = (fastest / ms["mamlkit"])[::-1]
fig, ax = plt.subplots(figsize=(6.4, 2.6))
ax.barh(range(len(gain)), gain, height=0.5, color=plots.COLOURS["blue"])
ax.axvline(1, color=plots.COLOURS["black"], linestyle="--", linewidth=1)
above = {"xy": (1, 1), "xycoords": ("data", "axes fraction"), "xytext": (0, 3)}
ax.annotate("as fast as mamlkit", textcoords="offset points", ha="center", **above)
for place, times in enumerate(gain):
    ax.text(times, place, f" {times:.1f}", va="center")
names = [shape.replace(", ", ",\n") for shape in gain.index]
ax.set_yticks(range(len(gain)), names)
ax.set(xlabel="times as long as mamlkit", xlim=(0, 1.15 * gain.max()))
ax.grid(visible=False, axis="y")
plt.show()

# %% [markdown] tags=["caption"]
# How many times as long the fastest other way takes for one meta-gradient, of all ways that were tried: a loop over tasks, higher, torchopt,
# `torch.func`. Dashed: as fast as mamlkit. Two CPU threads with wide vectors; {numref}`tab-how-fast` has the times.

# %% [markdown]
# ## What is to be computed
#
# The meta-gradient "involves a gradient through a gradient" ({cite:t}`finn2017maml`, section 2.2). The libraries
# for this take it literally: they run the inner updates with automatic differentiation, keep the graph of everything, and
# let it be differentiated once more ({cite:t}`grefenstette2019generalized`, {cite:t}`arnold2020learn2learn`,
# {cite:t}`ren2023torchopt`). They do so one task at a time, since every task has weights of its own after the first
# {term}`inner step <inner step, outer step>`. That is slow for three reasons:
#
# - a task of five small images leaves a processor that likes large matrices idle most of the time;
# - the second differentiation is automatic as well. The gradient of batch normalisation, say, is a formula of a
#   dozen operations, and each is differentiated and each writes its result to memory;
# - the graph of all inner steps lies in memory until the end.
#
# `torch.func.vmap` removes the loop but not the rest, and turns convolutions with a kernel per task into *grouped*
# convolutions, for which few fast programs exist.
#
# ## The adjoint recursion
#
# Write $g(\phi)$ for the gradient of a task's support loss and $H(\phi)$ for its Hessian. Adaptation is
# $\phi_0 = \theta$, $\phi_{k+1} = \phi_k - \alpha\, g(\phi_k)$. With $v_n$ the gradient of the query loss at $\phi_n$,
# the chain rule gives the meta-gradient as $v_0$ of
#
# $$v_k = v_{k+1} - \alpha\, H(\phi_k)\, v_{k+1}, \qquad k = n - 1, \dots, 0.$$ (eq-adjoint)
#
# Nothing but the $\phi_k$ is needed to go back, and of the Hessian nothing but its product with one vector:
# the derivative of $g$ along that vector, which costs about two gradients
# ({cite:t}`pearlmutter1994fast`). In PyTorch's own words:

# %%
import json
import statistics
import time

import torch
import torch.nn.functional as F
from torch.func import grad, jvp, vmap

from mamlkit import maml, methods, models, tasks
from mamlkit.engine import adjoint, kernels_torch, meta_batch
from mamlkit.experiments import paper
from mamlkit.report import notebook
from mamlkit.runs import seeds

torch.set_num_threads(1)


def adjoint_recursion(loss_fn, theta, task, alpha, steps):
    gradient = grad(loss_fn)
    path = [theta]
    for _ in range(steps):
        slope = gradient(path[-1], task.support)
        path.append({n: w - alpha * slope[n] for n, w in path[-1].items()})
    v = gradient(path.pop(), task.query)
    for phi in reversed(path):
        _, hessian_v = jvp(lambda p: gradient(p, task.support), (phi,), (v,))
        v = {n: v[n] - alpha * hessian_v[n] for n in v}
    return v


# %% [markdown]
# It is to equal the gradient through the gradient, here on four sinusoid tasks with three inner steps, in double
# precision:

# %%
network = models.mlp(1, (40, 40), 1)
update = {"inner_lr": 0.01, "inner_steps": 3}
learner = methods.Learner(network, loss="mse", **update, shots=10)
double = lambda t: t.double() if t.is_floating_point() else t
start = network.init(seeds.generator(0, "init"))
theta = {name: double(value) for name, value in start.items()}
family = tasks.make("sinusoid", "train", shots=10, queries=10)
sampled = family.sample(seeds.generator(0, "train"), 4)
batch = maml.Task(*(tuple(map(double, pair)) for pair in sampled))

through, _ = maml.meta_gradient(methods.maml(learner).loss, theta, batch)
one = lambda task: adjoint_recursion(learner.loss_fn, theta, task, 0.01, 3)
each = vmap(one)(batch)
recursion = {name: v.mean(0) for name, v in each.items()}
fast, _ = meta_batch.meta_gradient(methods.maml(learner), theta, batch)


def distance(one, other):
    flat = lambda params: torch.cat([params[name].flatten() for name in other])
    return float((flat(one) - flat(other)).norm() / flat(other).norm())


text = "the recursion is the gradient through the gradient"
notebook.check(text, distance(recursion, through), "<", 1e-12)
notebook.check("so is what the package runs", distance(fast, through), "<", 1e-12)

# %% [markdown]
# ## Four passes
#
# The package goes one step further and leaves automatic differentiation alone. A network is a chain of layers
# $y = f(x, w)$, and {eq}`eq-adjoint` asks four things of each of them: its value (*forward*); the gradient with
# respect to $x$ and $w$ (*backward*); and the derivatives of both when the weights move along $v$ (*tangent*,
# *tangent backward*). For a matrix product they are one, two, two and four products. A support example thus costs nine
# products per weight and inner step, a query example three. (In the first layer, whose inputs neither move nor need a
# gradient, four and two.)
#
# :::{admonition} The first-order shortcut, counted
# :class: note
# Without the second-order term a support example costs three products instead of nine. With the paper's Mini-ImageNet
# settings, 5 support images, 5 steps and 75 query images, that is $3 \cdot 25 + 3 \cdot 75 = 300$ in place of
# $9 \cdot 25 + 3 \cdot 75 = 450$: a third less. The paper reports "a roughly 33% speed-up in network computation"
# (section 5.2).
# :::
#
# For batch normalisation the four passes are short because its derivative is. With $m$ and $r$ the mean and the
# inverse standard deviation over the points, $n = r\,(z - m)$, and when $z$ moves along $\dot z$,
#
# $$\dot n = r\,P \dot z, \qquad P a = a - \operatorname{mean}(a) - n \operatorname{mean}(n\,a).$$ (eq-projection)
#
# $P$ takes out of $a$ what a shift and a scaling of $z$ would do, which normalisation undoes. It is symmetric, so the
# backward pass is the same formula, and its derivative along $\dot n$ has three more terms and no graph. A check
# against automatic differentiation:

# %%
generator = torch.Generator().manual_seed(0)
z = torch.randn(7, dtype=torch.float64, generator=generator)


def inverse_deviation(z):
    return torch.rsqrt(z.var(correction=0) + models.BATCH_NORM_EPS)


normalise = lambda z: (z - z.mean()) * inverse_deviation(z)
r, n = inverse_deviation(z), normalise(z)
unit = torch.eye(7, dtype=torch.float64)
projection = torch.stack([a - a.mean() - n * (n * a).mean() for a in unit])
jacobian = torch.func.jacrev(normalise)(z)
off = (r * projection - jacobian).abs().max()
notebook.check("the derivative of normalisation is r P", off, "<", 1e-12)
off = (projection - projection.T).abs().max()
notebook.check("P is symmetric", off, "<", 1e-12)

# %% [markdown]
# The maximum over a window moves in front of normalisation and ReLU, since both are increasing functions of each
# channel. The engine keeps, in one byte per output, which pixel won or that the unit is off. Each of
# the four passes of *normalise, take the maximum, shift, rectify* then is one function, which on a CPU Numba
# compiles, and which goes through memory two or three times.
#
# ## Convolutions with a kernel per task
#
# A 3x3 convolution is a matrix product once every pixel's neighbourhood is written out as a row of nine pixels. For a
# meta-batch that is a *batched* product, one per task, and processors are good at those:

# %%
generator = torch.Generator().manual_seed(1)
# tasks, points, pixels, channels
images = torch.randn(2, 5, 7, 7, 3, generator=generator)
kernels = torch.randn(2, 27, 4, generator=generator)  # four filters for each task
window = models.Window(size=7, channels=3, stride=2, before=1, after=1, out=4)
ours = kernels_torch.product(images, kernels, window)
channels_first = lambda x: x.permute(0, 3, 1, 2)
for task in range(2):
    kernel = channels_first(kernels[task].T.view(4, 3, 3, 3))
    wanted = F.conv2d(channels_first(images[task]), kernel, stride=2, padding=1)
    off = (channels_first(ours[task]) - wanted).abs().max()
    text = f"task {task}: unfolding and one product are the convolution"
    notebook.check(text, off, "<", 1e-5)

# %% [markdown]
# The rows are nine times as large as the image, and the time in which they are written down is lost. So on a CPU they
# are not: number $k$ of row $m$ is found in the image at the sum of two offsets, one of the row and one of $k$, and a loop
# of our own adds up the products, six rows by one vector of filters at a time, so that the sums stay in registers. (A *vector* is here two
# registers: 16 numbers with AVX2, 32 with AVX-512.) Both
# adjoints are such sums as well, with other offsets: pixels and inputs change places in one, output and input pixels in the other.
#
# Together with {eq}`eq-adjoint` that is the engine. The function below is all there is between the passes
# and the meta-gradient; threads take chunks of tasks.

# %% mystnb={"markdown_format": "myst"}
notebook.source(adjoint.gradient)

# %% [markdown]
# ## Live, on a small shape
#
# Eight tasks of five *Glyphs* each (see chapter 3), a network of 16 filters, one inner step, one thread.
# These times depend on what else the machine does; the tables below were measured with all ways taking turns.

# %% tags=["nbval-ignore-output"]
loss = "cross-entropy, sum over examples / shots"
update = {"inner_lr": 0.4, "inner_steps": 1}
learner = methods.Learner(models.conv4(5, filters=16), loss, **update, shots=1)
theta = learner.model.init(seeds.generator(0, "init"))
glyphs = tasks.make("glyphs", "train", ways=5, shots=1, queries=1)
batch = glyphs.sample(seeds.generator(0, "train"), 8)
method = methods.maml(learner)


def loop(theta):
    pick = lambda i: maml.Task(*(tuple(t[i] for t in pair) for pair in batch))
    return sum(method.loss(theta, pick(i)) for i in range(8)) / 8


ways = {
    "loop over tasks": lambda: grad(loop)(theta),
    "torch.func.vmap": lambda: maml.meta_gradient(method.loss, theta, batch)[0],
    "mamlkit": lambda: meta_batch.meta_gradient(method, theta, batch)[0],
}
gradients = {name: way() for name, way in ways.items()}
for name, way in ways.items():
    times = []
    for _ in range(7):
        start = time.perf_counter()
        way()
        times.append(time.perf_counter() - start)
    print(f"{name:16} {1e3 * statistics.median(times):6.1f} ms")

# %%
off = max(distance(each, gradients["mamlkit"]) for each in gradients.values())
notebook.check("all three agree in float32", off, "<", 1e-3)

# %% [markdown]
# ## Small networks
#
# The network of the sinusoids has 1,761 parameters, and a task ten points and ten more. One of its layers is computed in less time
# than Python needs to ask for it, so that an iteration of hundreds of small functions is an iteration of asking. There the
# engine goes the other way: the whole recursion of a task, from the first forward pass to $v_0$, is *one* function that Numba
# compiles, and tasks are dealt to threads. With the calls gone, three smaller things took most of the time. Rows of 40 numbers are no
# multiple of a vector's 16 or 32, and the remainder was done number by number: rows now end with zeros. A product wrote its sums to
# memory after every fourth term: five rows of them now stay in registers until they are whole. And Numba counts who uses an array,
# which for a small matrix took longer than the work: all matrices now lie in one piece of memory, where nothing is counted. Networks
# without convolutions go this way on a CPU, those with convolutions the way of the passes above, where a call does enough to be worth
# its price.
#
# One thing more is left out where the first layer is large. In the network without convolutions it takes 784 pixels, and a task has five pictures
# and five more. Let $X$ hold them all, a row each. The gradient of that layer's weights is always a sum over pictures, $X^\top D$, so an inner
# step can only add combinations of rows of $X$, and so can every step of the recursion. The moved weights are $\theta + X^\top C$ with ten
# rows in $C$, and a product with them is
#
# $$x\,(\theta + X^\top C) = x\,\theta + (x X^\top)\, C.$$
#
# $X\theta$ and $X X^\top$ are computed once for each task, whatever the number of steps. The steps then work on $C$, and 200,704
# moved weights for each task are never written down. So there are fewer products than the limit below counts.
#
# Where a task makes a single step from few points, as both small networks do in training, the same goes for every layer. With inputs $X$ of the
# layer and the gradient $D$ in what its product gives, a row for each point of the support, inputs $Q$ of the query give
#
# $$Q\,(\theta - \alpha X^\top D) = Q\,\theta - \alpha\,(Q X^\top)\, D.$$
#
# $Q X^\top$ has as many numbers as there are pairs of points, which is little. The way back, and the derivative along the query's gradient that the
# recursion asks for, have the same two products, turned. So no task has weights of its own, and those of $\theta$ multiply the points of
# eight tasks at once. Where the points are more than a layer is wide, or the steps more than one, each task gets its moved weights.
#
# ## The paper's shapes
#
# The rest of this chapter was measured beforehand, by `make bench ARGS="--save NAME"`, and is shown with its origin.
# All ways get the same tensors, threads and process and take turns; the number is the median time of a meta-gradient.
# Before anything is timed, all must agree in float64. The peers back-propagate task by task, which is the faster and
# smaller of the two ways to write the loop; `torch.func` takes all tasks at once. The **limit** is the time of the matrix products
# alone, with convolutions in their direct form, at the rate that a large batched product reached in the same run, PyTorch's or the engine's
# own, whichever is higher. *learn2learn* (0.2.0) does not build on Python 3.11 and is missing here. JAX was not tried.


# %% tags=["hide-input"] mystnb={"markdown_format": "myst"}
def in_words(origin):
    """Where and when something was measured."""
    where = f"{origin['processor']}, {origin['device']}"
    return f"{where}, {origin['date']}, commit {origin['commit'][:7]}"


def origin_of(machine, part):
    """The same of a table; where its lines are of several commits, which of which."""
    origin = json.loads((folder / machine / "origin.json").read_text())[part]
    lines = pd.read_csv(folder / machine / f"{part}.csv")
    if "commit" not in lines or lines["commit"].nunique() == 1:
        return in_words(origin)
    of = lines.groupby("commit", sort=False)["shape"].unique()
    which = "; ".join(f"commit {c}: {', '.join(shapes)}" for c, shapes in of.items())
    return f"{origin['processor']}, {origin['device']}; {which}"


def comparison(machine, name):
    """The table of one machine."""
    ms, fastest, shown = compared(machine)
    digits = lambda t: 0 if t >= 20 else 1 if t >= 1 else 2
    frame = ms[shown].map(lambda t: "" if pd.isna(t) else f"{t:.{digits(t)}f}")
    frame["fastest other / ours"] = (fastest / ms["mamlkit"]).map("{:.1f}".format)
    frame["ours / limit"] = (ms["mamlkit"] / ms["matrix-product limit"]).map(
        "{:.1f}".format
    )
    caption = (
        "Milliseconds of one meta-gradient, and how many times as long the fastest "
        f"other way takes. {origin_of(machine, 'time')}."
    )
    return notebook.table(frame.reset_index(), caption, name, right=frame.columns)


comparison(WIDE, "tab-how-fast")

# %%
ms, fastest, shown = compared(WIDE)
gain, limit = fastest / ms["mamlkit"], ms["mamlkit"] / ms["matrix-product limit"]
small = ms.index.str.contains("sinusoid|no convolution")
notebook.check("small networks: five times as fast", gain[small].min(), ">", 5)
notebook.check("images: twice as fast", gain[~small].min(), ">", 2)
direct = ~ms.index.str.contains("Mini-ImageNet")
text = "direct convolutions: no time is below the limit"
notebook.check(text, limit[direct].min(), ">", 1)
most, least = limit[~direct].max(), limit[direct & ~small].min()
text = "with fewer products it is nearer to the limit"
notebook.check(text, most, "<", least)
loops = [way for way in OTHERS if way in ms and way != "torch.func vmap"]
gain = ms[loops].min(axis=1) / ms["mamlkit"]
for shape in ms.index[small]:
    print(f"{shape}: {gain[shape]:.0f} times as fast as the fastest loop over tasks")

# %% [markdown]
# On Mini-ImageNet most convolutions have fewer products than the limit counts ({numref}`tab-winograd`).

# %% [markdown]
# What is fast, and why:
#
# - **Small networks**, since the calls are gone, and with a single step the moved weights. The fastest other way there is `torch.func`, which
#   calls each function once for all tasks; what loops over tasks takes many times as long. The sinusoid stays far from the limit: it is that of
#   large products, and those of a small network are narrow. Besides, a sinusoid's gradient that is asked for alone pays for what Python does before and after the
#   compiled function (checks, shapes, memory), nearly as long as the function itself takes; a training need not ({numref}`tab-training`).
# - **Many small images** (Omniglot), since tasks are put together in chunks that suit a core's cache, and each normalisation with
#   what belongs to it is one pass through memory in place of a dozen.
# - **Few large images** (Mini-ImageNet). There the loop's convolutions are large enough to run well, so that less was to be won, until
#   most of the products went.
#
# And what is not:
#
# - **Normalisation**, and the traffic between cache and memory that goes with it, takes a good part of what lies above the limit on Omniglot.
# - **The first layer of Mini-ImageNet**, whose three channels fill no vector.
#
# The time of a shape moves by about a tenth within minutes, and further beside other work. So compare times within one line of a figure or one table only
# ([below](how-fast-spread) is how far one gradient's times lie apart).

# %% tags=["hide-input"] mystnb={"markdown_format": "myst"}
gpu = (folder / "cuda" / "time.csv").exists()
comparison("cuda", "tab-how-fast-cuda") if gpu else notebook.markdown(
    "On a GPU: not run. [How to](on-a-gpu) has what measures it there."
)

# %% [markdown]
# ## A quarter of the products
#
# Where a convolution moves on by one pixel, neighbouring windows share most of what they read, and Winograd's algorithm
# ({cite:t}`lavin2016fast`) shares products as well. It computes four by four pixels of a result from a tile $d$ of six by six: with a kernel $g$,
#
# $$A^\top \left[ (G\, g\, G^\top) \odot (B^\top d\, B) \right] A$$ (eq-winograd)
#
# takes 36 multiplications, and the direct form 144. The three matrices are small and constant. Summed over channels each of the 36 positions is a
# product of matrices. Of its two adjoints the one in the images is a convolution once more, with the kernel turned round, and goes the same way. The one in
# $g$ is $G^\top [ \sum (B^\top d B) \odot (A\, y A^\top) ]\, G$, where $y$ are four by four pixels of the result's gradient. Sides are rounded up to
# whole tiles, so that on Mini-ImageNet's images a little more than a quarter is left.
#
# It pays if a tile is made and taken apart in registers, a few dozen tiles at a time so that they stay in the cache; of many images also, if the next
# tiles are sent for meanwhile. (Tiles of two by two pixels, with 16 multiplications in place of 36, gained
# little: there the additions cost most of what the products save.) The engine goes this way where a layer's channels and filters fill vectors
# and an image has ten pixels a side or more: in Mini-ImageNet's network in all layers after the first. Omniglot's moves on by two pixels.
# Rounding errors of a convolution are four to six times as large (up to ten times where few numbers are large). The kinks of ReLUs and of maxima amplify
# them: the error of a task's whole gradient becomes ten times as large in the median, which is that of the plain loop in PyTorch ({numref}`tab-float32`).
# `python benchmarks/winograd.py --save` makes the table; both ways take turns, on one thread.

# %% tags=["hide-input"] mystnb={"markdown_format": "myst"}
tried = pd.read_csv(folder / "winograd" / "time.csv")
tried["gain"] = tried["direct ms"] / tried["winograd ms"]
frame = tried[["what", "pixels", "images", "direct ms", "winograd ms", "gain"]].copy()
for column in ("direct ms", "winograd ms"):
    frame[column] = frame[column].map(lambda t: f"{t:.{0 if t >= 20 else 2}f}")
    error = column.replace("ms", "error")
    frame[error] = tried[error].map(lambda e: "" if pd.isna(e) else f"{e:.0e}")
frame["gain"] = frame["gain"].map("{:.2f}".format)
origin = json.loads((folder / "winograd" / "origin.json").read_text())
notebook.table(
    frame,
    "Time and relative error in float32 of convolutions from 32 channels to 32 filters "
    "and of their adjoints, in the direct form and in Winograd's, and time of a "
    f"meta-gradient of Mini-ImageNet 5-way 1-shot. {in_words(origin)}.",
    "tab-winograd",
    right=frame.columns[1:],
)

# %%
whole = tried["what"] == "meta-gradient"
gain = tried.loc[whole, "gain"].item()
notebook.check("a meta-gradient gains more than a third", gain, ">", 4 / 3)
gain = tried.loc[~whole & (tried["pixels"] == 42), "gain"].min()
notebook.check("the second layer's convolutions gain twice and more", gain, ">", 2)
most = (tried["winograd error"] / tried["direct error"]).max()
notebook.check("errors grow less than tenfold", most, "<", 10)

# %% [markdown]
# What did not pay: unfolding along rows of pixels only and adding up three products; keeping the unfolded matrix for the next pass. What did
# pay, beside the loop over offsets, is memory: a page that the system hands out anew costs more than the arithmetic on it, so each thread
# uses its own again, and it begins at a line of the cache, since a wide vector that lies in two lines is read twice.

# %% [markdown]
# ## Accuracy
#
# The error of a task's gradient in float32, against float64, for the engine and for the plain loop. In the median the engine's is about the loop's; on
# Mini-ImageNet with direct convolutions it is a tenth of that; the faster convolutions cost this accuracy:

# %% tags=["hide-input"] mystnb={"markdown_format": "myst"}
accuracy = pd.read_csv(folder / WIDE / "accuracy.csv")
quantiles = {"q50": "median", "q90": "90 % below", "q100": "largest"}
lines = accuracy[["shape", "way", "tasks", *quantiles]].rename(columns=quantiles)
for column in quantiles.values():
    lines[column] = lines[column].map("{:.0e}".format)
notebook.table(
    lines,
    "Relative error of the gradient of a single task in float32. "
    f"{origin_of(WIDE, 'accuracy')}.",
    "tab-float32",
    right=lines.columns[2:],
)

# %%
median = accuracy.pivot(index="shape", columns="way", values="q50")
most = (median["mamlkit"] / median["loop"]).max()
notebook.check("the engine's median error is at most twice the loop's", most, "<", 2)

# %% [markdown]
# Some tasks have far larger errors than the median, whichever way they are computed: where a unit lies so close to the kink of its
# ReLU that rounding decides, the gradient of the whole task jumps.
#
# ## Memory
#
# {eq}`eq-adjoint` needs the weights of each step and one pass at a time. The engine keeps as many passes as fit into
# 128 MB per thread, since running a pass again adds three products to its nine, and drops the oldest first. So memory grows with
# the steps until these are full; after that, by no more than the weights of a step. {numref}`tab-memory` does not reach that point.

# %% tags=["hide-input"] mystnb={"markdown_format": "myst"}
used = (
    pd.read_csv(folder / WIDE / "memory.csv")
    .pivot(index="way", columns="steps", values="MB")
    .loc[shown[:-1]]
)
used.columns = [f"{steps} step{'s' if steps > 1 else ''}" for steps in used]
notebook.table(
    used.reset_index(),
    "Peak memory in MB of a Mini-ImageNet meta-gradient (4 tasks, 5-way 1-shot, "
    "15 queries), above what the process held before. "
    f"{origin_of(WIDE, 'memory')}.",
    "tab-memory",
)

# %%
at_five = used["5 steps"]
share = at_five["mamlkit"] / at_five["loop"]
claim = "with five steps the engine needs no more than the loop (5 % allowed)"
notebook.check(claim, share, "<", 1.05)

# %% [markdown]
# On small shapes the engine needs more than the loop ({numref}`fig-scaling`): its chunks hold many tasks, and the loop holds one. Smaller
# chunks need less memory, and time:

# %% tags=["hide-input"] mystnb={"markdown_format": "myst"}
chunks = pd.read_csv(folder / WIDE / "chunks.csv")
frame = pd.DataFrame(
    {
        "activations of a chunk, MB": chunks["bytes"].map(lambda b: f"{b / 2**20:g}"),
        "ms": chunks["ms"].map("{:.0f}".format),
        "memory, MB": chunks["MB"].map(str),
    }
)
notebook.table(
    frame,
    "A meta-gradient of Omniglot 5-way 1-shot, 32 tasks, by the size of the largest "
    "activation of a chunk; the first is the engine's. "
    f"{origin_of(WIDE, 'chunks')}.",
    "tab-chunks",
    right=frame.columns,
)

# %%
grown = pd.read_csv(folder / WIDE / "memory-scaling.csv")
at_base = grown[(grown["quantity"] == "tasks") & (grown["value"] == 32)]
of_loop = at_base.set_index("way")["MB"]["loop"]
print(f"the loop needs {of_loop} MB")
smallest = chunks.iloc[-1]
text = "even chunks of an eighth need more than three times the loop's"
notebook.check(text, smallest["MB"] / of_loop, ">", 3)
slower = smallest["ms"] / chunks["ms"][0]
notebook.check("and take over 1.25 times as long", slower, ">", 1.25)

# %% [markdown]
# So less memory is not to be had for nothing. Nor is it over the steps: `adjoint.KEPT_BYTES = 0` keeps nothing but the last pass, and runs the others
# again.
#
# ## Scaling
#
# From Omniglot 5-way 1-shot with 32 tasks, one inner step and 64 filters, one quantity is varied at a time.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-scaling"}, "image": {"alt": "Four panels of time above four of memory, in each three lines. Time rises to the right nearly everywhere, with mamlkit lowest but for 16 filters, from which its line falls to 32 before it rises; over tasks the loop rises in proportion and the others more slowly, over inner steps all nearly in proportion, over shots vmap overtakes the loop at five, over filters the loop rises least. Of memory the loop needs least by far; mamlkit falls a little over shots, is level beyond 32 tasks and rises over steps and filters; vmap rises in proportion in every panel and needs most, at four tasks and 16 filters about as much as mamlkit."}}
scaling, memory = (
    pd.read_csv(folder / WIDE / f"{name}.csv") for name in ("scaling", "memory-scaling")
)
fig, axes = plt.subplots(2, 4, figsize=(9.2, 5.2), sharex="col", sharey="row")
for row, (lines, unit) in zip(axes, ((scaling, "ms"), (memory, "MB"))):
    for ax, (quantity, part) in zip(row, lines.groupby("quantity", sort=False)):
        plots.scaling(ax, part, quantity if unit == "MB" else "", unit)
axes[0, 0].set_ylabel("milliseconds")
axes[1, 0].set_ylabel("megabytes")
handles, labels = axes[0, 0].get_legend_handles_labels()
fig.legend(handles, labels, loc="outside lower center", ncols=4)
plt.show()

# %% [markdown] tags=["caption"]
# Time and memory of a meta-gradient against tasks, shots, inner steps and filters, on logarithmic axes. The dotted line has slope
# one.

# %%
ours = scaling[scaling["way"] == "mamlkit"].set_index(["quantity", "value"])["ms"]
growth = {}
for quantity in ("tasks", "shots", "steps"):
    line = ours[quantity]
    in_proportion = line.index[-1] / line.index[0]
    growth[quantity] = line.iloc[-1] / line.iloc[0] / in_proportion
print(f"time: {origin_of(WIDE, 'scaling')}")
print(f"memory: {origin_of(WIDE, 'memory-scaling')}")
others = scaling[scaling["way"] != "mamlkit"].groupby(["quantity", "value"])["ms"]
ahead = others.min() / ours
least = ahead.drop(("filters", 16)).min()
notebook.check("the fastest everywhere but at 16 filters, times", least, ">", 1)
at_16 = ahead["filters", 16]
print(f"at 16 filters the fastest other way takes {at_16:.2f} times as long")
claim = "linear or better in tasks, shots and steps (20 % allowed)"
notebook.check(claim, max(growth.values()), "<", 1.2)
held = memory[memory["way"] == "mamlkit"].set_index(["quantity", "value"])["MB"]
more = held["tasks"][64] / held["tasks"][32]
notebook.check("twice 32 tasks need no more memory (20 % allowed)", more, "<", 1.2)
more = held["shots"][10] / held["shots"][1]
notebook.check("nor do ten shots instead of one", more, "<", 1.2)

# %% [markdown]
# (how-fast-spread)=
# One gradient, that of 32 tasks with one shot, one step and 64 filters, is in several tables and in every panel above. They were measured in one run of a quarter of an hour, with nothing beside it:

# %%
base = {"tasks": 32, "shots": 1, "steps": 1, "filters": 64}
shape = "Omniglot 5-way 1-shot"
same = {
    "table of shapes": ms.loc[shape, "mamlkit"],
    "table of chunks": chunks["ms"][0],
} | {f"panel of {name}": ours[name, value] for name, value in base.items()}
print(", ".join(f"{where}: {time:.0f} ms" for where, time in same.items()))
apart = max(same.values()) / min(same.values())
notebook.check("the longest of these over the shortest", apart, ">", 1.05)

# %% [markdown]
# Time is nearly proportional to the steps, as the count of products is. In tasks it grows more slowly
# from 4 to 64 (a single step of the line, as from 16 to 32, lies within that spread); in shots too, since a query
# example, of which there is one per class here, costs its three products all the same. In filters the products grow with
# the square, everything else linearly, so that small networks are dominated by the rest and large ones by the products. Sixteen filters take
# longer than 32, which one wide vector holds: half of it is zeros, which are put in before each convolution and taken out after it. There, and only
# there, `torch.func` is faster.
#
# The loop has the graph of one task in memory at a time, vmap those of all. The engine is in between, but for a handful of tasks and for sixteen filters: each thread has the
# passes of a chunk of tasks, whose size goes by their activations, and so by neither tasks nor shots.
#
# ## In a training
#
# A training also samples tasks, takes Adam's steps, keeps a log and looks at validation tasks. Beside a large network's meta-gradients that is little.
# Beside a small one's it was more than half: sampling, Adam and the log ask Python for a few dozen functions, and so does each call of the
# engine. So a small network makes up to a hundred updates in one call, in which Adam's step is a loop behind the meta-gradient's. What is left
# is the sampling, and an iteration takes less time than a meta-gradient that is asked for alone. (Omniglot 5-way 1-shot is timed on *Glyphs*.)

# %% tags=["hide-input"] mystnb={"markdown_format": "myst"}
training = pd.read_csv(folder / WIDE / "training.csv").pivot(
    index="shape", columns="way", values="ms"
)
rounded = training.map(lambda t: f"{t:.{0 if t >= 20 else 2}f}")
notebook.table(
    rounded.reset_index(),
    f"Milliseconds of an iteration. {origin_of(WIDE, 'training')}.",
    "tab-training",
    right=rounded.columns,
)

# %%
share = training["training"] / training["meta-gradients alone"]
text = "Omniglot: everything else takes less than 15 % of the meta-gradients' time"
notebook.check(text, share["Omniglot 5-way 1-shot"] - 1, "<", 0.15)
text = "sinusoid: an iteration of a training, in meta-gradients asked for alone"
notebook.check(text, share["sinusoid"], "<", 1)
iterations = paper.get("sinusoid-maml").iterations
seconds = iterations * training["training"]["sinusoid"] / 1e3
text = f"sinusoid: {iterations:,} iterations, in seconds"
notebook.check(text, seconds, "<", 60)

# %% [markdown]
# ## An iteration of Algorithm 3
#
# In [chapter 6](06-locomotion.ipynb) the engine's passes serve a policy, and most of the time may go elsewhere: into the simulator. What a
# processor can do at best there is known, too: the rate of MuJoCo's own rollouts, a step and the forward pass that an observation of
# the new state needs, for the physics; and the limit of the products for the update with its conjugate gradients.
# (`python benchmarks/meta_rl.py --save`, at the paper's size: 40 tasks, 20 rollouts of 200 steps, before and after the inner step.)

# %% tags=["hide-input"] mystnb={"markdown_format": "myst"}
found = pd.read_csv(folder / "rl" / "time.csv", index_col="what")
found.columns = ["HalfCheetah velocity", "Ant velocity"]
PEER = "AsyncVectorEnv, 40 processes, steps/s"
ROWS = {
    "MuJoCo's rollout, steps/s": "physics, steps/s",
    "a step and its forward pass, steps/s": "physics, with forward pass, steps/s",
    "our sampling before the inner step, steps/s": "our sampling before, steps/s",
    "our sampling after it, steps/s": "our sampling after, steps/s",
    f"Gymnasium's {PEER}": PEER,
    "update, s": "update, s",
    "the same with PyTorch's products, s": "update with PyTorch's products, s",
    "limit of its products, s": "limit of the update, s",
    "a whole iteration, s": "meta-iteration, s",
    "500 iterations, h": "500 iterations, h",
}
rates = found.loc[
    ["physics, steps/s", "physics, with forward pass, steps/s"]
].to_numpy()
# The HalfCheetah's observations need no forward pass.
needed = pd.Series([rates[0, 0], rates[1, 1]], found.columns)
share = {
    part: 100 * found.loc[f"our sampling {part}, steps/s"] / needed
    for part in ("before", "after")
}
reached = pd.DataFrame(share).T.set_axis(
    [f"our sampling {part} it, % of the physics that it needs" for part in share]
)
frame = pd.concat([found.loc[list(ROWS.values())].set_axis(list(ROWS)), reached]).map(
    lambda v: f"{v:,.0f}" if v >= 100 else f"{v:.1f}"
)
origin = json.loads((folder / "rl" / "origin.json").read_text())
notebook.table(
    frame.reset_index(names="what"),
    f"One iteration of Algorithm 3. {in_words(origin)}.",
    "tab-how-fast-rl",
    right=frame.columns,
)

# %%
physics = found.loc["physics, with forward pass, steps/s"]
for part in ("before", "after"):
    least = (found.loc[f"our sampling {part}, steps/s"] / physics).min()
    text = f"sampling {part} the inner step: over 60 % of steps with a forward pass"
    notebook.check(text, least, ">", 0.6)
least = reached.min().min()
notebook.check("both robots: over 70 % of the physics that they need", least, ">", 70)
update = found.loc["update, s"]
most = (update / found.loc["limit of the update, s"]).max()
notebook.check("the update takes less than twice its limit", most, "<", 2)
gain = (found.loc["update with PyTorch's products, s"] / update).min()
notebook.check("with PyTorch's products it takes longer, times", gain, ">", 1.3)

# %% [markdown]
# In an iteration of the HalfCheetah the update takes most of the time, in one of the Ant the simulation. What is observed of the
# HalfCheetah's new state is computed without a forward pass, which is why it is sampled faster than steps that have one. Both robots come to about
# three quarters of the physics that they need. They go in two groups: while the
# processor simulates one, the actions of the other are computed. The rest are the policy's own network and the copying of states. Physics on a GPU was not
# tried, since nothing here has run on one.
#
# The update's products are loops of the engine's own, which sum five rows by one vector at a time in registers, as those of its convolutions do. PyTorch's library is
# slower here: it does less than half of what this processor's vectors can. On an Intel processor it is the faster one, by a fifth of the update, and the engine takes it there.
#
# ## Exercises
#
# ```{exercise}
# :label: ex-adjoint-first-order
#
# What of {eq}`eq-adjoint` is left in first-order MAML? Change `adjoint_recursion` and check it against the package.
# ```

# %% [markdown]
# ```{solution-start} ex-adjoint-first-order
# :class: dropdown
# ```
#
# The Hessian term is what first order leaves out, so $v_0 = v_n$: the query gradient at the adapted parameters. The
# backward recursion is skipped.


# %%
def first_order(loss_fn, theta, task, alpha, steps):
    fast = maml.adapt(loss_fn, theta, task.support, inner_lr=alpha, inner_steps=steps)
    return grad(loss_fn)(fast, task.query)


network = models.mlp(1, (40, 40), 1)
update = {"inner_lr": 0.01, "inner_steps": 3}
learner = methods.Learner(network, loss="mse", **update, shots=10)
theta = network.init(seeds.generator(0, "init"))
batch = family.sample(seeds.generator(0, "train"), 4)
one = lambda task: first_order(learner.loss_fn, theta, task, 0.01, 3)
each = vmap(one)(batch)
package, _ = meta_batch.meta_gradient(methods.first_order_maml(learner), theta, batch)
off = distance({name: v.mean(0) for name, v in each.items()}, package)
notebook.check("the query gradient is first-order MAML's", off, "<", 1e-5)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise}
# :label: ex-adjoint-symmetry
#
# Does {eq}`eq-adjoint` need $H$ to be symmetric? What would change if the inner update were not a gradient step but
# $\phi_{k+1} = \phi_k - \alpha\, u(\phi_k)$ for some other field $u$? Take $u = D g$, a gradient scaled by a fixed diagonal matrix $D$, and then momentum.
# ```

# %% [markdown]
# ```{solution-start} ex-adjoint-symmetry
# :class: dropdown
# ```
#
# The chain rule gives $v_k = v_{k+1} - \alpha\, J(\phi_k)^\top v_{k+1}$ with the Jacobian $J$ of $u$. For a gradient field
# $J = H = H^\top$, and the product may be had forward, as the derivative of $u$ along $v$, which needs no graph. For
# another field it must be a transposed product, in general by differentiation in reverse. With $u = D g$ it is
# $J^\top v = H D v$, which is forward again, along $D v$. Momentum is no such field, as its update depends on earlier steps: the state is
# $\phi$ *and* the velocity, and $v$ has a part for each.

# %% [markdown]
# ```{solution-end}
# ```
