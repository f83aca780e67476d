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
# # MAML in twenty lines
#
# ```{admonition} This chapter
# - **claims** that the whole algorithm is twenty lines of PyTorch, that its gradient contains a second
#   derivative which decides where learning ends, and that `mamlkit`, which every later chapter calls,
#   computes this gradient exactly;
# - **takes** about half a minute on two CPU cores;
# - **assumes** gradient descent, the chain rule for functions of several variables, and some PyTorch.
# ```
#
# What it is about, in a picture after the paper's Fig. 1. Tasks pull in different directions, and no point is the solution of all of
# them. But from one that is well chosen, a *single step* of gradient descent leads most of the way to the solution of each.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-three-tasks"}, "image": {"alt": "A plane with three stars far apart. A grey line runs from the upper left to a black dot between them. From the dot three arrows in three colours lead to points close to the three stars.", "width": "440px"}}
import matplotlib.pyplot as plt
import torch

from mamlkit import maml
from mamlkit.report import plots

plots.use_style()
solutions = torch.tensor([[2.0, 0.3], [-0.4, 1.9], [-1.1, -1.3]])
curvatures = torch.tensor([[1.0, 1.5], [1.4, 1.0], [1.2, 0.9]])
three = maml.Task(support=(solutions, curvatures), query=(solutions, curvatures))


def bowl(params, examples):
    solution, curvature = examples
    return (curvature * (params["theta"] - solution) ** 2).sum() / 2


def after_a_step(params, task):
    return bowl(maml.inner_step(bowl, params, task.support, 0.6), task.query)


way = [torch.tensor([-2.3, 2.4])]
for _ in range(150):
    slope, _ = maml.meta_gradient(after_a_step, {"theta": way[-1]}, three)
    way.append(way[-1] - 0.3 * slope["theta"])
fig, ax = plt.subplots(figsize=(4.6, 3.6))
ax.plot(*torch.stack(way).T, color=plots.COLOURS["grey"], label="meta-learning")
for task, colour in enumerate(("vermillion", "green", "purple")):
    colour, examples = plots.COLOURS[colour], (solutions[task], curvatures[task])
    end = maml.inner_step(bowl, {"theta": way[-1]}, examples, 0.6)["theta"]
    look = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.8, "shrinkB": 0}
    ax.annotate("", end.tolist(), way[-1].tolist(), arrowprops=look)
    ax.plot(*solutions[task], "*", color=colour, markersize=13)
    ax.annotate(f"task {task + 1}", solutions[task] + torch.tensor([0.12, 0.12]))
ax.plot(*way[-1], "o", color=plots.COLOURS["black"], markersize=8, label="θ")
ax.set(xlabel="first parameter", ylabel="second parameter", aspect="equal")
ax.legend(loc="lower right")
plt.show()

# %% [markdown] tags=["caption"]
# Three tasks, quadratic losses in two parameters. Meta-learning moves the initialisation θ (line, from its start to the dot); from
# there one step on the loss of a task (arrow) leads towards the solution of that task (star).

# %% [markdown]
# ## The claim
#
# {cite:t}`finn2017maml` propose (abstract, sections 1 and 2.2) to learn an *initialisation*: parameters
# $\theta$ from which one or a few steps of ordinary gradient descent, on a handful of examples, solve a
# new task. They claim that this needs nothing of the model except that gradient descent trains it: no
# further parameters, no learned update rule, no particular architecture. Hence *model-agnostic*, and
# hence one algorithm for regression, classification and reinforcement learning. Whether it also works
# as well as they report is the matter of the later chapters. This one is about the algorithm itself.
#
# ## Equations and algorithm
#
# A task $\mathcal{T}_i$ is drawn from a distribution $p(\mathcal{T})$ and brings a loss
# $\mathcal{L}_{\mathcal{T}_i}$ for a model $f_\theta$. Adaptation to the task is a step of gradient
# descent of size $\alpha$ (the *inner step*):
#
# $$\theta'_i = \theta - \alpha \nabla_\theta \mathcal{L}_{\mathcal{T}_i}(f_\theta).$$
#
# The initialisation is judged by the loss *after* this step, over all tasks (the *meta-loss*),
#
# $$\min_\theta \sum_{\mathcal{T}_i \sim p(\mathcal{T})} \mathcal{L}_{\mathcal{T}_i}(f_{\theta'_i})
#   = \sum_{\mathcal{T}_i \sim p(\mathcal{T})}
#     \mathcal{L}_{\mathcal{T}_i}\bigl(f_{\theta - \alpha \nabla_\theta \mathcal{L}_{\mathcal{T}_i}(f_\theta)}\bigr),$$
#
# and is itself found by gradient descent, of step size $\beta$ (the *outer step*; one of them is an
# *iteration*):
#
# $$\theta \leftarrow \theta - \beta \nabla_\theta \sum_{\mathcal{T}_i \sim p(\mathcal{T})}
#   \mathcal{L}_{\mathcal{T}_i}(f_{\theta'_i}).$$ (eq-meta-update)
#
# The gradient in {eq}`eq-meta-update` is taken with respect to $\theta$, not $\theta'_i$: it passes
# through the inner step. In regression the loss is the squared error, in classification the
# cross-entropy:
#
# $$\mathcal{L}_{\mathcal{T}_i}(f_\phi) = \sum_{x^{(j)}, y^{(j)} \sim \mathcal{T}_i}
#   \bigl\lVert f_\phi(x^{(j)}) - y^{(j)} \bigr\rVert_2^2$$ (eq-mse)
#
# $$\mathcal{L}_{\mathcal{T}_i}(f_\phi) = -\sum_{x^{(j)}, y^{(j)} \sim \mathcal{T}_i}
#   \Bigl[ y^{(j)} \log f_\phi(x^{(j)}) + (1 - y^{(j)}) \log\bigl(1 - f_\phi(x^{(j)})\bigr) \Bigr]$$ (eq-cross-entropy)
#
# In the paper these three are equations 1, 2 and 3, and what follows is its Algorithm 1. It prints the third without its minus sign.
# That one is for two classes. The paper's tasks have five or twenty, and there the code, theirs and ours, has the
# cross-entropy of a softmax, $-\sum_c y^{(j)}_c \log f_\phi(x^{(j)})_c$ for each example.
#
# ```{admonition} Algorithm 1 of the paper: model-agnostic meta-learning
# :name: alg-maml
# :class: note
#
# **Given** a distribution over tasks $p(\mathcal{T})$ and step sizes $\alpha$, $\beta$
#
# 1. Initialise $\theta$ at random.
# 2. While not done:
# 3. $\quad$ Sample a batch of tasks $\mathcal{T}_i \sim p(\mathcal{T})$.
# 4. $\quad$ For each $\mathcal{T}_i$:
# 5. $\qquad$ Evaluate $\nabla_\theta \mathcal{L}_{\mathcal{T}_i}(f_\theta)$ on $K$ examples.
# 6. $\qquad$ Adapt: $\theta'_i = \theta - \alpha \nabla_\theta \mathcal{L}_{\mathcal{T}_i}(f_\theta)$.
# 7. $\quad$ (end of the loop over tasks)
# 8. $\quad$ Update $\theta \leftarrow \theta - \beta \nabla_\theta \sum_{\mathcal{T}_i} \mathcal{L}_{\mathcal{T}_i}(f_{\theta'_i})$.
# 9. (end)
# ```
#
# Algorithm 2 of the paper is the same for supervised tasks. It adds that the $K$ examples of line 5,
# the {term}`support <support, query>` set, and those on which line 8 measures the loss, the **query** set, are drawn
# separately from the task.
#
# ## The task family
#
# Sinusoids (section 5.1): $y = A \sin(x - \varphi)$ with amplitude $A \sim U[0.1, 5]$, phase
# $\varphi \sim U[0, \pi]$ and inputs $x \sim U[-5, 5]$. Ten support points and ten query points make a
# task. The model is a network with two hidden layers of 40 rectified units. Its parameters are a plain
# list of tensors, so that `theta` and `adapted` can be passed to the same function.

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch.autograd import grad

from mamlkit import maml, measures, methods, models
from mamlkit.maml import Task
from mamlkit.report import notebook, plots

plots.use_style()
torch.set_num_threads(1)  # tensors are small: more threads would only wait


def sample_task(generator, points=10):
    amplitude = 0.1 + 4.9 * torch.rand(1, generator=generator)
    phase = math.pi * torch.rand(1, generator=generator)
    x = 10 * torch.rand(2 * points, 1, generator=generator) - 5
    y = amplitude * torch.sin(x - phase)
    support, query = (x[:points], y[:points]), (x[points:], y[points:])
    return support, query


# %%
def random_theta(generator):
    theta = []
    for fan_in, fan_out in [(1, 40), (40, 40), (40, 1)]:
        for shape in [(fan_out, fan_in), (fan_out,)]:  # weight, bias
            uniform = 2 * torch.rand(shape, generator=generator) - 1
            theta.append((uniform / math.sqrt(fan_in)).requires_grad_())
    return theta


def f(theta, x):
    weight0, bias0, weight1, bias1, weight2, bias2 = theta
    hidden = F.relu(F.linear(x, weight0, bias0))
    hidden = F.relu(F.linear(hidden, weight1, bias1))
    return F.linear(hidden, weight2, bias2)


def loss(theta, examples):
    x, y = examples
    return ((f(theta, x) - y) ** 2).mean()


# %% [markdown]
# The loss averages where {eq}`eq-mse` sums, as the authors' program does. A constant factor in the loss
# of a task multiplies $\alpha$; a constant factor in the sum over tasks multiplies $\beta$ only. The
# first matters, and {numref}`Exercise %s <ex-sum>` returns to it.
#
# ## Twenty lines
#
# This is [Algorithm 1](alg-maml); the numbers in the comments are its lines.


# %%
def meta_gradient(theta, tasks, alpha):
    total = 0.0
    for support, query in tasks:  # line 4
        slope = grad(loss(theta, support), theta, create_graph=True)  # 5
        adapted = [p - alpha * g for p, g in zip(theta, slope)]  # 6
        total = total + loss(adapted, query) / len(tasks)  # 8: the sum
    return grad(total, theta), total.item()  # 8: its gradient


def train(theta, alpha, beta, iterations, meta_batch_size, generator):
    optimiser, log = torch.optim.Adam(theta, lr=beta), []
    for _ in range(iterations):  # 2
        tasks = [sample_task(generator) for _ in range(meta_batch_size)]  # 3
        gradient, meta_loss = meta_gradient(theta, tasks, alpha)
        for p, g in zip(theta, gradient):
            p.grad = g
        optimiser.step()  # 8: the update
        log.append(meta_loss)
    return log


# %% [markdown]
# Line 8 is plain gradient descent in the algorithm and Adam {cite:p}`kingma2015adam` in the experiments,
# here as in the paper. The essential word is `create_graph=True`: it makes the gradient of line 5 a
# function of $\theta$ that can be differentiated again.
#
# $K$, $\alpha$, the single inner step and the network are those of section 5.1. So that training takes
# seconds, three things are not: the usual PyTorch
# initialisation in place of weights of standard deviation 0.01 (from which learning starts slowly),
# $\beta = 0.005$ in place of 0.001, and 800 iterations of 10 tasks in place of 70,000 of 25. The
# [next chapter](02-sinusoid.ipynb) has the real thing.
#
# What this book claims of its runs it also checks: `notebook.check` states the claim and, in brackets, the number that was measured and
# the bound it is held against; if it does not hold, the page is not built.

# %%
alpha = 0.01
generator = torch.Generator().manual_seed(0)
theta = random_theta(generator)
log = train(theta, alpha, 0.005, 800, meta_batch_size=10, generator=generator)


# %%
def adaptation(theta, support, steps):
    path = [theta]
    for _ in range(steps):
        adapted = zip(path[-1], grad(loss(path[-1], support), path[-1]))
        path.append([(p - alpha * g).detach().requires_grad_() for p, g in adapted])
    return path


errors, new_tasks, last = [], 200, 10
for _ in range(new_tasks):
    support, query = sample_task(generator)
    path = adaptation(theta, support, steps=last)
    errors.append([loss(fast, query).item() for fast in path])
statistics = measures.statistics("mse", np.array(errors))
error = statistics["mean"]
text = f"on {new_tasks} new tasks one step leaves less than half of the error"
notebook.check(text, error[1] / error[0], "<", 0.5)
text = f"and {last} leave less than a quarter"
notebook.check(text, error[last] / error[0], "<", 0.25)

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-twenty-lines"}, "image": {"alt": "First panel: the meta-loss falls steeply and then levels off within 800 iterations. Second: the query error falls steeply at the first inner step and slowly at the nine that follow."}}
ci95 = 1.96 * np.array(statistics["sd"]) / math.sqrt(new_tasks)
curve = pd.DataFrame({"value": error, "ci95": ci95})
smooth = pd.Series(log).rolling(50, center=True).mean()
fig, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.9))
left.plot(log, color=plots.COLOURS["sky"], linewidth=0.5, alpha=0.6)
left.plot(smooth, color=plots.COLOURS["blue"])
left.set(xlabel="iteration", ylabel="meta-loss (mean squared error)", ylim=(0, None))
plots.adaptation_curve(right, "MAML", curve)
right.set(ylabel="query error (mean squared error)", ylim=(0, None))
plt.show()

# %% [markdown] tags=["caption"]
# Live run of the twenty lines. First panel: meta-loss of each meta-batch of ten tasks (light) and its running mean. Second: mean squared
# error on the query points of 200 new tasks after 0 to 10 inner steps; the band is the 95 % interval over tasks.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-before-after"}, "image": {"alt": "Three panels, each with a sine wave, ten support points on it and three curves of the network. The dotted curve before adaptation is the same in all panels. The dashed curve after one step lies near the wave; the solid one after ten steps lies nearer still in the first panel, and in the third leaves it where there is no support point."}}
x = torch.linspace(-5, 5, 201)[:, None]
fig, axes = plt.subplots(1, 3, figsize=(7.2, 2.8), sharey=True)
for ax, amplitude, phase in zip(axes, (4.5, 3.0, 1.0), (0.4, 2.6, 1.5)):
    at = 10 * torch.rand(10, 1, generator=generator) - 5
    support = (at, amplitude * torch.sin(at - phase))
    path = adaptation(theta, support, 10)
    fits = {steps: f(path[steps], x).detach() for steps in (0, 1, 10)}
    plots.regression_fits(ax, x, amplitude * torch.sin(x - phase), support, fits)
    ax.set_title(f"A = {amplitude}, φ = {phase} rad")
axes[1].set_ylabel("")
axes[2].set_ylabel("")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
plt.show()

# %% [markdown] tags=["caption"]
# Three new tasks. The initialisation (dotted) is the same for all three; each is adapted to its own ten support points.

# %% [markdown]
# ## What is differentiated
#
# Write $L_i$ for the loss of task $i$ as a function of the parameters, on its support or on its query
# examples. The inner step is $\theta'_i = \theta - \alpha \nabla L_i^{\mathrm{support}}(\theta)$, so its
# Jacobian is
#
# $$\frac{\partial \theta'_i}{\partial \theta} = I - \alpha H_i(\theta), \qquad
#   H_i(\theta) = \nabla^2 L_i^{\mathrm{support}}(\theta),$$
#
# a symmetric matrix. With the chain rule,
#
# $$\nabla_\theta\, L_i^{\mathrm{query}}(\theta'_i)
#   = \bigl(I - \alpha H_i(\theta)\bigr)\, \nabla L_i^{\mathrm{query}}(\theta'_i).$$ (eq-meta-gradient)
#
# After several steps $\theta = \theta^0, \theta^1, \dots, \theta^n = \theta'_i$ it is a product,
#
# $$\nabla_\theta\, L_i^{\mathrm{query}}(\theta'_i)
#   = \bigl(I - \alpha H_i(\theta^0)\bigr) \cdots \bigl(I - \alpha H_i(\theta^{n-1})\bigr)\,
#     \nabla L_i^{\mathrm{query}}(\theta'_i).$$ (eq-meta-gradient-steps)
#
# The Hessian $H_i$ is never formed. Its product with a vector $v$ is the gradient of a scalar,
# $H_i v = \nabla_\theta \langle \nabla L_i^{\mathrm{support}}(\theta), v \rangle$ with $v$ held fixed, and
# that is one more backward pass, the "gradient through a gradient" of section 2.2. Rectified units do
# not make $H_i$ vanish: the network is piecewise linear in $x$, not in $\theta$, whose layers multiply
# each other.
#
# The {term}`first-order <first order>` variant (section 5.2) replaces $I - \alpha H_i$ by $I$. It evaluates the gradient at
# the adapted parameters and applies it to the initial ones. What it leaves out shows best where
# everything can be written down.
#
# ## What the second-order term does
#
# Let $\theta$ be a number and the two tasks quadratic, of different curvature $a_i$, with support and
# query losses alike:
#
# $$\begin{aligned}
# L_i(\theta) &= \tfrac{1}{2} a_i (\theta - c_i)^2, \\
# \theta'_i - c_i &= (1 - \alpha a_i)(\theta - c_i), \\
# L_i(\theta'_i) &= \tfrac{1}{2} a_i (1 - \alpha a_i)^2 (\theta - c_i)^2.
# \end{aligned}$$
#
# Every gradient below is a sum of $a_i (1 - \alpha a_i)^p (\theta - c_i)$ and differs in $p$ alone:
# $p = 0$ for the loss before adaptation (pretraining), $p = 1$ for the first-order gradient, $p = 2$ for
# the gradient of the meta-loss. So each method ends in a weighted mean of the two optima,
#
# $$\theta^* = \frac{\sum_i w_i c_i}{\sum_i w_i}, \qquad w_i = a_i (1 - \alpha a_i)^p.$$ (eq-toy-optimum)
#
# The steep task is the one that a gradient step solves almost by itself, since its error shrinks by
# $1 - \alpha a_i$. MAML therefore moves towards the optimum of the *flat* task, and the more so the longer the step, until at $\alpha = 1/4$ one step
# solves the steep task; a longer one overshoots there, and the steep task weighs more again. (Here the flat task weighs more for
# $1/7 < \alpha < 1/3$; below, $\alpha = 0.2$.) Pretraining does the opposite. The
# first-order method counts the shrinking once instead of twice and ends in between, at a point where the
# meta-loss still has a slope.

# %%
curvature, optimum = torch.tensor([[1.0, 4.0], [-1.0, 1.0]]).double()
two_tasks = Task(support=(curvature, optimum), query=(curvature, optimum))
size = 0.2  # alpha


def quadratic(params, examples):
    a, c = examples
    return a * (params["theta"] - c) ** 2 / 2


def toy(inner_lr, inner_steps=1, first_order=False):
    options = dict(inner_lr=inner_lr, inner_steps=inner_steps, first_order=first_order)

    def objective(params, task):
        adapted = maml.adapt(quadratic, params, task.support, **options)
        return quadratic(adapted, task.query)

    return objective


# %%
toys = {
    "pretraining": toy(0),
    "first order": toy(size, first_order=True),
    "MAML": toy(size),
}
ends = {}
for p, (name, objective) in enumerate(toys.items()):
    params = {"theta": torch.tensor(1.5).double()}
    for _ in range(200):
        gradient, _ = maml.meta_gradient(objective, params, two_tasks)
        params = {"theta": params["theta"] - 0.5 * gradient["theta"]}
    ends[name] = params["theta"].item()
    weights = curvature * (1 - size * curvature) ** p
    mean = ((weights * optimum).sum() / weights.sum()).item()
    claim = f"{name} ends at {round(mean, 1) + 0.0}, its closed form"
    notebook.check(claim, abs(ends[name] - mean), "<", 1e-9)

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-second-order"}, "image": {"alt": "First panel: two parabolas, one with its minimum at minus one and one, steeper, with its minimum at plus one. After an inner step the first is a little flatter, the second almost flat. Second panel: the meta-loss is a parabola with its minimum at minus 0.6, where MAML ends. First order ends at zero, pretraining at plus 0.6. At zero a horizontal dashed line is the first-order slope and a rising solid line the true one."}}
grid, at_zero = (
    torch.linspace(-2, 2, 201).double(),
    {"theta": torch.tensor(0.0).double()},
)
meta = lambda theta: maml.meta_loss(toys["MAML"], {"theta": theta}, two_tasks)[0]
fig, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.7))
for a, c, name, colour in zip(
    curvature, optimum, ("flat task", "steep task"), ("green", "orange")
):
    left.plot(
        grid,
        a * (grid - c) ** 2 / 2,
        "--",
        color=plots.COLOURS[colour],
        label=f"{name}, at θ",
    )
    adapted = (1 - size * a) ** 2 * a * (grid - c) ** 2 / 2
    left.plot(grid, adapted, color=plots.COLOURS[colour], label=f"{name}, adapted")
right.plot(
    grid,
    [meta(value) for value in grid],
    color=plots.COLOURS["black"],
    label="meta-loss",
)
near = torch.tensor([-0.7, 0.7]).double()
for (name, end), look, colour in zip(
    ends.items(), ("^", "s--", "o-"), ("vermillion", "sky", "blue")
):
    slope, _ = maml.meta_gradient(toys[name], at_zero, two_tasks)
    right.plot(
        end,
        meta(torch.tensor(end)),
        look[0],
        color=plots.COLOURS[colour],
        markersize=8,
        label=f"end of {name}",
    )
    if look[1:]:
        right.plot(
            near,
            meta(at_zero["theta"]) + slope["theta"] * near,
            look[1:],
            color=plots.COLOURS[colour],
            linewidth=2.2,
        )
left.set(xlabel="initialisation θ", ylabel="loss of the task", ylim=(0, 4))
right.set(xlabel="initialisation θ", ylabel="meta-loss", ylim=(0, 1))
for ax in (left, right):
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2)
plt.show()

# %% [markdown] tags=["caption"]
# Two quadratic tasks, $a = 1, 4$, $c = -1, +1$, $\alpha = 0.2$. First panel: the loss of each task at $\theta$ (dashed) and after an inner
# step from $\theta$ (solid). Second: the meta-loss, with the point where each method ends and, at $\theta = 0$, the slope that the
# first-order gradient reports (dashed: none) beside the true one (solid).

# %% [markdown]
# How much the term matters for real tasks is a question of $\alpha H_i$: for a small step on a nearly
# linear loss it is little. Section 5.2 of the paper finds almost no difference on Mini-ImageNet; how far our own runs have come is in
# [chapter 4](04-mini-imagenet.ipynb). Chapters 2, 5, 6 and 9 have both variants.
#
# ## The same in the package
#
# The later chapters do not call the twenty lines but the functions below, shown as they run. There is one
# `adapt` for meta-training and for testing. Everything is written for a single task, and `vmap` in
# `meta_loss` runs the meta-batch.

# %% mystnb={"markdown_format": "myst"}
notebook.source(maml.inner_step, maml.adapt, maml.meta_loss, maml.meta_gradient)

# %% [markdown]
# Are they the same? Below is a meta-batch of five tasks in double precision, a random $\theta$, and both
# gradients of all parameters.

# %%
generator = torch.Generator().manual_seed(1)
double = lambda tensors: tuple(t.detach().double() for t in tensors)
theta = [p.requires_grad_() for p in double(random_theta(generator))]
batch = [tuple(map(double, sample_task(generator))) for _ in range(5)]
twenty_lines, _ = meta_gradient(theta, batch, alpha)

network = models.mlp(1, (40, 40), 1)
learner = methods.Learner(network, loss="mse", inner_lr=alpha, inner_steps=1, shots=10)
names = ["weight0", "bias0", "weight1", "bias1", "weight2", "bias2"]
params = {name: p.detach() for name, p in zip(names, theta)}
tasks = Task(*(tuple(map(torch.stack, zip(*role))) for role in zip(*batch)))
package, _ = maml.meta_gradient(methods.maml(learner).loss, params, tasks)

distance = max((package[name] - g).abs().max() for name, g in zip(names, twenty_lines))
notebook.check("the twenty lines equal mamlkit", distance, "<", 1e-9)

# %% [markdown]
# Two programs can share a mistake. Central differences share no derivative of the meta-loss with either, since they need only
# its values:
# $\partial_k L \approx \bigl(L(\theta + h e_k) - L(\theta - h e_k)\bigr) / 2h$ for each of the 1,761
# parameters.

# %%
flatten = lambda params: torch.cat([params[name].flatten() for name in names])


def meta_loss(vector, objective=methods.maml(learner).loss):
    parts = vector.split([params[name].numel() for name in names])
    values = {name: part.view_as(params[name]) for name, part in zip(names, parts)}
    return maml.meta_loss(objective, values, tasks)[0]


h, point, exact = 1e-5, flatten(params), flatten(package)
slope = lambda e: (meta_loss(point + h * e) - meta_loss(point - h * e)) / (2 * h)
directions = torch.eye(len(point)).double()
differences = torch.func.vmap(slope, chunk_size=100)(directions)
off_by = lambda vector: (vector - exact).norm() / exact.norm()
notebook.check("central differences agree", off_by(differences), "<", 1e-6)

first_order, _ = maml.meta_gradient(
    methods.first_order_maml(learner).loss, params, tasks
)
wrong_by = off_by(flatten(first_order))
notebook.check("the first-order gradient is off by over 1 %", wrong_by, ">", 0.01)

# %% [markdown]
# ## Exercises
#
# ```{exercise}
# :label: ex-alpha-zero
#
# What does [Algorithm 1](alg-maml) do for $\alpha = 0$? Name the method, then show that the twenty lines agree.
# ```

# %% [markdown]
# ```{solution-start} ex-alpha-zero
# :class: dropdown
# ```
#
# Then $\theta'_i = \theta$, and {eq}`eq-meta-update` descends the loss on the query points of all tasks
# pooled. That is the paper's baseline {term}`pretrained on all of the tasks <pretrained, oracle, random>` (section 5.1).


# %%
def farthest(one, other):
    return max((a - b).abs().max() for a, b in zip(one, other, strict=True))


pooled = sum(loss(theta, query) for _, query in batch) / len(batch)
pretraining = grad(pooled, theta)
without_adaptation, _ = meta_gradient(theta, batch, alpha=0.0)
off = farthest(without_adaptation, pretraining)
notebook.check("alpha = 0 is pretraining, but for rounding", off, "<", 1e-6)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise}
# :label: ex-first-order
#
# Turn the twenty lines into first-order MAML by changing as little as you can, and check the result
# against `mamlkit.methods.first_order_maml`.
# ```

# %% [markdown]
# ```{solution-start} ex-first-order
# :class: dropdown
# ```
#
# Without `create_graph=True` the gradient of line 5 is a constant for the outer differentiation, so that
# $\partial\theta'_i / \partial\theta = I$.


# %%
def first_order_gradient(theta, tasks, alpha):
    total = 0.0
    for support, query in tasks:
        slope = grad(loss(theta, support), theta)
        adapted = [p - alpha * g for p, g in zip(theta, slope)]
        total = total + loss(adapted, query) / len(tasks)
    return grad(total, theta)


mine = first_order_gradient(theta, batch, alpha)
off = farthest([first_order[name] for name in names], mine)
notebook.check("without the graph it is first-order MAML", off, "<", 1e-6)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise}
# :label: ex-toy-steps
#
# Where does MAML with $n$ inner steps end on the two quadratic tasks? What happens as $n$ grows, and what
# if $\alpha > 2 / a_i$ for one of them?
# ```

# %% [markdown]
# ```{solution-start} ex-toy-steps
# :class: dropdown
# ```
#
# $n$ steps shrink the error by $(1 - \alpha a_i)^n$, so $w_i = a_i (1 - \alpha a_i)^{2n}$ in
# {eq}`eq-toy-optimum`. As $n$ grows the weights of the two tasks drift apart without bound, and $\theta^*$
# tends to the optimum of the task that adapts most slowly. For $\alpha > 2 / a_i$ adaptation diverges,
# $|1 - \alpha a_i| > 1$, and $\theta^*$ tends to the optimum of *that* task: the only safe place to
# start a divergent descent is where it stays.


# %%
def closed_form(steps):
    weights = curvature * (1 - size * curvature) ** (2 * steps)
    return (weights * optimum).sum() / weights.sum()


for steps in (2, 3):
    params_toy = {"theta": closed_form(steps)}
    slope, _ = maml.meta_gradient(toy(size, inner_steps=steps), params_toy, two_tasks)
    claim = f"the meta-gradient of {steps} steps vanishes at the closed form"
    notebook.check(claim, abs(slope["theta"]), "<", 1e-9)
ends = ", ".join(f"{closed_form(n):.4f}" for n in range(5))
print("with 0, 1, 2, 3 and 4 steps MAML ends at", ends)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise}
# :label: ex-sum
#
# Suppose the loss sums over the $K$ support points, as in {eq}`eq-mse`, instead of averaging. Which
# $\alpha$ gives the same adapted parameters? Would it matter if only the query loss were summed?
# ```

# %% [markdown]
# ```{solution-start} ex-sum
# :class: dropdown
# ```
#
# The sum is $K$ times the mean, so $\alpha / K$. A factor of the query loss only scales the
# meta-gradient, that is $\beta$, and Adam divides such a factor out again. In classification the authors'
# program divides the sum over all $N K$ support examples by $K$, which is $N$ times the mean: a
# reimplementation with the mean and the paper's $\alpha$ takes inner steps that are $N$ times too short.

# %%
support, _ = batch[0]
x, y = support
of_mean = [alpha * g for g in grad(loss(theta, support), theta)]
of_sum = [alpha / len(x) * g for g in grad(((f(theta, x) - y) ** 2).sum(), theta)]
off, text = farthest(of_mean, of_sum), "alpha on the mean is alpha / K on the sum"
notebook.check(text, off, "<", 1e-7)

# %% [markdown]
# ```{solution-end}
# ```
