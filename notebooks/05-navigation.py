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
# # 2D navigation
#
# ```{admonition} This chapter
# - **claims** that the same algorithm learns to reinforcement-learn: a policy that is not told the goal
#   turns towards it in one policy-gradient step on episodes of its own (Algorithm 3, Fig. 4), and that
#   `mamlkit.rl` computes the update of the paper exactly;
# - **takes** less than a minute on two CPU cores; the runs at the paper's scale are committed results,
#   and the trained policy is evaluated again here;
# - **assumes** [chapter 1](01-twenty-lines.ipynb) and the policy gradient of REINFORCE.
# ```

# %% tags=["hide-input"]
import dataclasses
import math

import gymnasium
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize
from torch.func import grad, hessian, vmap

from mamlkit.experiments import paper
from mamlkit.report import notebook, pages, plots, plots_rl, results
from mamlkit.report.explore import Curve, explore
from mamlkit.rl import envs, maml_rl, returns
from mamlkit.rl.navigation import STEP
from mamlkit.rl.policy import gaussian_mlp
from mamlkit.rl.sampling import Steps, sample, to_steps
from mamlkit.rl.trpo import conjugate_gradient
from mamlkit.runs import checkpoints, devices, policies, rederive, seeds, train

devices.set_up("cpu", threads=1)  # batches are small: more threads would only wait
plots.use_style()
NAME = "2d-navigation"
METHODS = {
    "MAML": "maml",
    "pretrained": "pretrained",
    "oracle": "oracle",
    "random initialisation": "random",
}
row = paper.get(f"{NAME}-maml")
test_goals = policies.test_goals(NAME)


# %% tags=["hide-input"]
FOUR = [10, 6, 2, 35]  # of the test goals, one in each direction


def trained(method):
    """The committed parameters, or None where nothing was run."""
    path = results.checkpoint(f"{NAME}-{METHODS[method]}")
    return checkpoints.load_params(path) if path.exists() else None


def ways(method, params):
    """Positions in an episode of each of four goals, after 0 to 3 gradient steps."""
    row = paper.get(f"{NAME}-{METHODS[method]}")
    test, goals = row.evaluations[0], test_goals[FOUR]
    env, policy = policies.build(row, len(goals), test.rollouts)
    fast, found = policies.spread(params, len(goals)), []
    for step, size in enumerate((*test.inner_lrs, 0.0)):
        episodes = sample(
            env, policy, fast, test.rollouts, (1, step), goals, drop_unfinished=True
        )
        found.append([])
        for i, last in enumerate(episodes.last):
            end = np.flatnonzero(last[0])[0] + 1
            seen = episodes.observations[i, 0, :end]
            moved = STEP * episodes.actions[i, 0, end - 1].clip(-1, 1)
            found[step].append(np.vstack([seen, seen[-1] + moved]))
        fast = maml_rl.adapt_each(policy, fast, to_steps(episodes, row.discount), size)
    return found


committed = {method: trained(method) for method in ("MAML", "pretrained")}
shown = {m: ways(m, params) for m, params in committed.items() if params}

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-navigation-trajectories"}, "image": {"alt": "Eight square panels, each with four stars near the corners of an outlined square and four coloured ways from its centre. The first four, MAML: the ways before adaptation stay around the start; after one step each leads towards its star, after two and three it ends at it, or about it. The last four, the pretrained policy: the ways wander more, and get near their stars only after two and three steps."}}
columns = ("before", "1 step", "2 steps", "3 steps")
fig, axes = plt.subplots(2, 4, figsize=(8.4, 4.6), sharex=True, sharey=True)
for line, method in zip(axes, committed):
    for step, ax in enumerate(line):
        ax.set(xlim=(-0.75, 0.75), ylim=(-0.75, 0.75), aspect="equal")
        if method in shown:
            plots_rl.trajectories(ax, test_goals[FOUR], shown[method][step])
            ax.label_outer()
        else:
            ax.text(0, 0, "not run", ha="center", va="center")
        if ax in axes[0]:
            ax.set_title(columns[step])
    line[0].set_ylabel(f"{method}\n$y$")
plt.show()

# %% [markdown] tags=["caption"]
# Ways of a point from the middle, in an episode of each of four test goals (stars, in the colour of the way), before adaptation and
# after one, two and three gradient steps. Above MAML, below a policy that was pretrained on all tasks; both trained at the paper's
# settings. Goals are drawn from the outlined square.

# %% [markdown]
# The same with a slider (on the site; elsewhere the picture shows the ways before any step):

# %% tags=["hide-input", "nbval-ignore-output"]
frames = {}
for method, by_step in shown.items():
    for step, found in enumerate(by_step):
        short = np.mean(
            [np.linalg.norm(w[-1] - g) for w, g in zip(found, test_goals[FOUR])]
        )
        curves = [Curve(*w.T.tolist(), "", colour) for colour, w in enumerate(found)]
        says = f"{method}, step {step}: the ways end {short:.2f} from their goals"
        frames[step, method] = curves, says
goals = [Curve([x], [y], "", i, "points") for i, (x, y) in enumerate(test_goals[FOUR])]
square = Curve(
    [-0.5, 0.5, 0.5, -0.5, -0.5], [-0.5, -0.5, 0.5, 0.5, -0.5], "goals", -1, "thin"
)
explore(
    {"gradient step": [0, 1, 2, 3], "method": [*shown]},
    frames,
    axes=("x", "y"),
    limits=((-1.5, 1.5), (-0.75, 0.75)),
    always=[square, *goals],
    alt="Ways of a point to four goals, in the colours of these, by gradient step.",
) if shown else notebook.box("Neither policy was run.")

# %% [markdown]
# ## What the paper claims
#
# Section 5.3.1 and Fig. 4 of {cite:t}`finn2017maml`: a point in the plane is to move to a goal $g$, drawn anew for every
# task from the square of side 1 around its start. It sees where it is but not where the goal is, so it can
# only find out by trying. Compared are
#
# - **MAML**, trained for a single gradient step;
# - **pretrained**: one policy trained on all tasks at once, then adapted in the same way;
# - **random initialisation**: not trained at all, adapted in the same way;
# - **oracle**: a policy that is told the goal and is not adapted, to compare with.
#
# The paper finds that MAML adapts much faster in one step, and that further steps, for which it was not trained, improve
# it still.
#
# ## The task
#
# In the letters of section 4.2, a task $\mathcal{T}_i$ has a distribution of first states $q_i(\mathbf{x}_1)$,
# transitions $q_i(\mathbf{x}_{t+1} \mid \mathbf{x}_t, \mathbf{a}_t)$ and a reward
# $R_i(\mathbf{x}_t, \mathbf{a}_t)$, and ends after $H$ steps. Its loss is minus the expected return of the policy
# $f_\phi$, which gives a distribution over actions for each state:
#
# $$\mathcal{L}_{\mathcal{T}_i}(f_\phi) = -\,\mathbb{E}_{\mathbf{x}_t, \mathbf{a}_t \sim f_\phi, q_i}
#   \Bigl[\, \sum_{t=1}^{H} R_i(\mathbf{x}_t, \mathbf{a}_t) \Bigr] .$$ (eq-rl-loss)
#
# Here $\mathbf{x}_t \in \mathbb{R}^2$ is the position, $\mathbf{x}_1 = 0$, $H = 100$, and
#
# $$\begin{aligned}
#   \mathbf{x}_{t+1} &= \mathbf{x}_t + 0.1 \operatorname{clip}(\mathbf{a}_t, -1, 1), \\
#   R_i(\mathbf{x}_t, \mathbf{a}_t) &= -\lVert \mathbf{x}_{t+1} - g_i \rVert ,
#   \qquad g_i \sim U\bigl([-\tfrac12, \tfrac12]^2\bigr) .
#   \end{aligned}$$
#
# Three things differ between the paper's text and the authors' code, and we follow the code
# ([item 3](deviation-3) of the deviations), since it made the figure:
#
# - The text has the *squared* distance, the code the distance. The released data of Fig. 4 decide it: the
#   returns of the forty test goals before adaptation are proportional to the distance of the goal.
# - "Within 0.01 of the goal", where an episode ends, is a square: both coordinates must be that close.
# - $\alpha$ is 0.1 in the text. The plotted run was trained with 0.5; in the test it takes a step of 0.5 and then steps
#   of 0.25.
#
# The environment is one of Gymnasium's, and these are its rules, tried:

# %%
goal = np.array([0.3, -0.4])
env = gymnasium.make("mamlkit/Navigation2D-v0", goal=goal)
position, _ = env.reset(seed=0)
off = np.abs(position).max()
notebook.check("it starts at the origin, off by", off, "==", 0)

position, reward, *_ = env.step(np.array([1.0, -0.5]))
off = np.abs(position - [0.1, -0.05]).max()
text = "an action of (1, -0.5) moves by (0.1, -0.05), off by"
notebook.check(text, off, "<", 1e-9)
position, reward, *_ = env.step(np.array([3.0, -0.5]))
off = np.abs(position - [0.2, -0.1]).max()
notebook.check("larger actions are clipped, off by", off, "<", 1e-9)
off = abs(reward + np.linalg.norm(position - goal))
text = "the reward is minus the distance after the move, off by"
notebook.check(text, off, "<", 1e-9)

for action in ([0.91, -1.0], [0.0, -1.0], [0.0, -0.91]):
    position, reward, terminated, *_ = env.step(np.array(action))
away = np.abs(position - goal)
notebook.check("the distance to the goal", np.linalg.norm(away), ">", 0.01)
notebook.check("but in each coordinate", away.max(), "<", 0.01)
notebook.check("so it is within the square, and this is the end", bool(terminated))

# %% [markdown]
# ### Two bounds from above
#
# Two numbers need no learning: one that no policy can exceed before adaptation, and one that none can exceed at all.
#
# *Before adaptation* a policy moves in the same way whatever the goal is. At each step it earns
# $-\mathbb{E}_g \lVert \mathbf{x} - g \rVert$ at best on average, which is concave in $\mathbf{x}$ and symmetric about the origin, so
# no place is better than the start itself. Over $H$ steps that makes
#
# $$-H\, \mathbb{E}_g \lVert g \rVert = -100 \cdot \tfrac16 \bigl(\sqrt2 + \ln(1 + \sqrt2)\bigr) = -38.26 ,$$ (eq-navigation-blind)
#
# and for the paper's forty test goals it is $-100$ times the least mean distance that a point has from them. Only ending early by accident could
# improve on it, and 100 squares of side 0.02 cover 4 % of the goals at most.
#
# *After adaptation* no policy can do better than one that knows the goal and goes there at once, with
# $\mathbf{a}_t = 10\,(g - \mathbf{x}_t)$ clipped: it is closest to the goal at every step, and ends first.


# %%
def straight_return(goal):
    """Return of going to the goal as fast as possible."""
    position, total = np.zeros(2), 0.0
    while (np.abs(position - goal) >= 0.01).any():
        position = position + 0.1 * np.clip(10 * (goal - position), -1, 1)
        total -= np.linalg.norm(position - goal)
    return total


mean_distance = lambda place: np.linalg.norm(test_goals - place, axis=1).mean()
blind = -100 * minimize(mean_distance, np.zeros(2)).fun
straight = np.mean([straight_return(goal) for goal in test_goals])
found = f"{blind:.2f} blind, {straight:.2f} straight"
print(f"the paper's {len(test_goals)} test goals: {found}")
goals = envs.sample_goals(NAME, np.random.default_rng(0), 100_000)
distances = np.linalg.norm(goals, axis=1)
far = abs(100 * distances.mean() - 38.26) / (
    100 * distances.std() / math.sqrt(len(goals))
)
notebook.check("blind, over all goals: -38.26, in standard errors", far, "<", 4)

# %% [markdown]
# The published curve of MAML begins at −40.41 and ends at −3.23; the paper's oracle is at −2.29. So MAML begins where a blind policy
# is best, at rest in the middle. What the oracle lacks to the second bound is, at least in part, the spread with which it goes on
# drawing its actions.
#
# ## Algorithm 3
#
# ```{admonition} Algorithm 3 of the paper: MAML for reinforcement learning
# :name: alg-maml-rl
# :class: note
#
# **Given** a distribution over tasks $p(\mathcal{T})$ and step sizes $\alpha$, $\beta$
#
# 1. Initialise $\theta$ at random.
# 2. While not done:
# 3. $\quad$ Sample a batch of tasks $\mathcal{T}_i \sim p(\mathcal{T})$.
# 4. $\quad$ For each $\mathcal{T}_i$:
# 5. $\qquad$ Sample $K$ trajectories $\mathcal{D}$ with $f_\theta$ in $\mathcal{T}_i$.
# 6. $\qquad$ Estimate $\nabla_\theta \mathcal{L}_{\mathcal{T}_i}(f_\theta)$ from $\mathcal{D}$.
# 7. $\qquad$ Adapt: $\theta'_i = \theta - \alpha \nabla_\theta \mathcal{L}_{\mathcal{T}_i}(f_\theta)$.
# 8. $\qquad$ Sample trajectories $\mathcal{D}'_i$ with $f_{\theta'_i}$ in $\mathcal{T}_i$.
# 9. $\quad$ (end of the loop over tasks)
# 10. $\quad$ Update $\theta \leftarrow \theta - \beta \nabla_\theta \sum_{\mathcal{T}_i} \mathcal{L}_{\mathcal{T}_i}(f_{\theta'_i})$, estimated from the $\mathcal{D}'_i$.
# 11. (end)
# ```
#
# What is new since [Algorithm 1](alg-maml): the data depend on the parameters. The support is sampled *with* $\theta$, the
# query *with* $\theta'_i$, and {eq}`eq-rl-loss` cannot be differentiated as it stands, since the simulator has no
# gradient. Both losses are therefore replaced by functions of the sampled actions that have the same
# gradient in expectation, up to its scale and to the discounting of later rewards (not the same curvature, which [chapter 6](locomotion-curvature) comes back to). With $\hat A_t$ an estimate of how much better the return after step $t$ was than
# expected (the {term}`advantage <advantage, baseline>`), the inner loss is that of REINFORCE and the outer one compares the policy with the one that
# sampled:
#
# $$\begin{aligned}
#   \hat{\mathcal{L}}(\theta) &= -\frac1T \sum_t \hat A_t \log f_\theta(\mathbf{a}_t \mid \mathbf{x}_t) , \\
#   \hat{\mathcal{L}}'_i(\theta) &= -\frac1T \sum_t \hat A'_t\,
#   \frac{f_{\theta'_i(\theta)}(\mathbf{a}'_t \mid \mathbf{x}'_t)}{f_{\theta'_i, \text{sampled}}(\mathbf{a}'_t \mid \mathbf{x}'_t)} .
#   \end{aligned}$$ (eq-rl-surrogates)
#
# The mean is over all $T$ steps of all trajectories of a task. Advantages are the discounted return less a linear baseline
# {cite:p}`duan2016benchmarking` fitted to the same trajectories, standardised within the task (the authors'
# code; the baseline is in section 5.3). They are numbers, not functions of $\theta$. The policy is a network with two
# hidden layers of 100 rectified units for the mean of a Gaussian, and a standard deviation for each action component
# that does not depend on the state. All of it is adapted, the deviations too.
#
# The losses in code, for one task:

# %%
policy = gaussian_mlp(2, 2)  # position -> mean of the action; params["log_std"]
alpha = row.inner_lr


def log_density(params, steps):
    """log f(a|x), summed over the components of an action."""
    spread = params["log_std"].exp()
    z = (steps.actions - policy.mean(params, steps.observations)) / spread
    return -(z**2 / 2 + params["log_std"] + math.log(2 * math.pi) / 2).sum(-1)


def loss(params, steps):  # weights: 1/T
    return -(steps.weights * steps.advantages * log_density(params, steps)).sum()


def adapted(params, steps):
    slope = grad(loss)(params, steps)  # line 6
    return {name: p - alpha * slope[name] for name, p in params.items()}  # 7


# %% [markdown]
# And the algorithm. `vmap` is the loop over tasks; the numbers in the comments are the lines of [Algorithm 3](alg-maml-rl):

# %%
tasks, rollouts = 8, 10
env = envs.make(NAME, np.zeros((tasks * rollouts, 2)))


def trajectories(params, goals, key):
    return to_steps(sample(env, policy, params, rollouts, key, goals), row.discount)


def meta_loss(theta, before, after, sampled):
    change = log_density(adapted(theta, before), after) - log_density(sampled, after)
    return -(after.weights * after.advantages * change.exp()).sum()


def meta_gradient(theta, number):
    goals = env.task.sample(np.random.default_rng(number), tasks)  # line 3
    before = trajectories(policies.spread(theta, tasks), goals, (number, 0))  # 5
    fast = vmap(adapted, (None, 0))(theta, before)  # 6, 7
    after = trajectories(fast, goals, (number, 1))  # 8
    each = vmap(grad(meta_loss), (None, 0, 0, 0))(theta, before, after, fast)
    return {name: g.mean(0) for name, g in each.items()}, before, after  # 10


theta = policy.init(seeds.generator(0, "init"))
gradient, before, after = meta_gradient(theta, number=0)

# %% [markdown]
# `mamlkit.rl.maml_rl` has the same losses, and a faster way to their derivatives: all tasks at once, without a
# graph. That it gives the same numbers is best seen in double precision:


# %%
def double(tensors):
    return {name: value.double() for name, value in tensors.items()}


theta64 = double(theta)
before64, after64 = (
    Steps(*(each.double() for each in steps)) for steps in (before, after)
)
fast = vmap(adapted, (None, 0))(theta64, before64)
package = maml_rl.adapt_each(policy, policies.spread(theta64, tasks), before64, alpha)
off = lambda a, b: float((a - b).norm() / b.norm())
farthest = max(off(package[k], fast[k]) for k in fast)
notebook.check("the package adapts alike", farthest, "<", 1e-10)

each = vmap(grad(meta_loss), (None, 0, 0, 0))(theta64, before64, after64, fast)
live = torch.cat([each[name].mean(0).flatten() for name in theta64])
batch = maml_rl.MetaBatch(policy, theta64, before64, after64, alpha)
notebook.check(
    "and has the same meta-gradient", off(batch.gradient(), live), "<", 1e-10
)

# %% [markdown]
# ## The outer step
#
# Line 10 has a step size $\beta$, and here it matters more than in supervised learning. The trajectories tell about policies like
# the one that sampled them. A step in $\theta$ that is harmless in one place turns the policy into another one elsewhere, and its
# next trajectories may be of no use at all. Trust-region policy optimisation (TRPO) {cite:p}`schulman2015trust`, which the paper
# uses, measures the step by what it does to the policies instead: minimise the surrogate loss subject to
#
# $$D(\theta) = \operatorname{mean}_{i, t}\; \mathrm{KL}\bigl(f_{\theta'_i, \text{sampled}}(\cdot \mid \mathbf{x}'_t)
#   \,\big\|\, f_{\theta'_i(\theta)}(\cdot \mid \mathbf{x}'_t)\bigr) \le \delta , \qquad \delta = 0.01 .$$
#
# $D$ is zero at the sampling parameters and never negative, so it has no linear term there: $D(\theta + s) \approx \tfrac12 s^\top G s$, with
# $G$ the Hessian of $D$. The surrogate changes by about $b^\top s$, with $b$ its gradient. To minimise $b^\top s$ under
# $\tfrac12 s^\top G s \le \delta$, go along $-G^{-1} b$ until the bound is met:
#
# $$s = -\sqrt{\frac{2 \delta}{b^\top G^{-1} b}}\; G^{-1} b .$$
#
# Ten iterations of conjugate gradient give $G^{-1} b$ from products of $G$ with vectors. Then the true loss and divergence
# are evaluated, and $s$ is shortened by factors of 0.8 until the one has fallen and the other is within $\delta$.
#
# The products are the issue. $D$ contains $\theta'_i(\theta)$, which contains a gradient, so $G$ seems to need third derivatives of
# the inner loss; the paper resorts to finite differences to avoid them. They are not needed:
#
# ```{prf:theorem} The Hessian of the divergence through an inner step
# :label: thm-fisher
#
# At the parameters that sampled, $G$ is the mean over tasks of
#
# $$(I - \alpha H_i)\, F_i\, (I - \alpha H_i) ,$$
#
# where $H_i$ is the Hessian of the inner loss at $\theta$ and $F_i$ the Fisher information of the adapted policy, averaged over the
# states of $\mathcal{D}'_i$.
# ```
#
# ```{prf:proof}
# Write $D_i(\phi)$ for the divergence of task $i$ as a function of adapted parameters, and $J_i = \partial \theta'_i / \partial \theta =
# I - \alpha H_i$, which is symmetric. By the chain rule $\nabla_\theta D_i = J_i \nabla_\phi D_i$. Once more, $\nabla^2_\theta D_i = J_i\,
# (\nabla^2_\phi D_i)\, J_i + \sum_k (\partial D_i / \partial \phi_k)\, \nabla^2_\theta (\theta'_i)_k$. At the sampling
# parameters $D_i$ is least, so $\partial D_i / \partial \phi_k = 0$ and the sum, with all its third derivatives, is gone;
# and $\nabla^2_\phi D_i = F_i$ there.
# ```
#
# So a product with $G$ is: one Hessian-vector product, one with $F_i$, one Hessian-vector product. Each is exact, by automatic
# differentiation or by hand {cite:p}`pearlmutter1994fast`. The check, on a policy small enough to write out every matrix:

# %%
small = gaussian_mlp(2, 2, (4, 3))  # 37 parameters
tiny = double(small.init(seeds.generator(1, "init")))
batch = maml_rl.MetaBatch(small, tiny, before64, after64, alpha)
one = lambda steps, i: Steps(*(each[i] for each in steps))
sampled = [maml_rl.adapt(small, tiny, one(before64, i), alpha) for i in range(tasks)]


def inner(i, vector):
    return maml_rl.inner_loss(small, batch.unflatten(vector), one(before64, i))


def divergence(i, vector):
    return maml_rl.divergence(
        small, batch.unflatten(vector), sampled[i], one(after64, i)
    )


def divergence_through(i, vector):
    step = vector - alpha * grad(lambda v: inner(i, v))(vector)
    return divergence(i, step)


# %%
at, eye = batch.vector(tiny), torch.eye(len(batch.vector(tiny)), dtype=torch.float64)
dense, formula, without = (torch.zeros_like(eye) for _ in range(3))
for i in range(tasks):
    dense += hessian(lambda v: divergence_through(i, v))(at) / tasks
    H = hessian(lambda v: inner(i, v))(at)
    F = hessian(lambda v: divergence(i, v))(batch.vector(sampled[i]))
    formula += (eye - alpha * H) @ F @ (eye - alpha * H) / tasks
    without += F / tasks

products = torch.stack([batch.fisher(e) for e in eye])
text = "the dense Hessian of the divergence is the formula's"
notebook.check(text, off(formula, dense), "<", 1e-10)
text = "and so are the products of the package"
notebook.check(text, off(products, dense), "<", 1e-10)
text = "without (I - alpha H) they would be wrong by more than 5 %"
notebook.check(text, off(without, dense), ">", 0.05)

# %% [markdown]
# With the dense matrix the whole update is a few lines, and the package takes the same step:


# %%
def judged(vector):
    """Surrogate loss and divergence, means over the tasks."""
    theta, total = batch.unflatten(vector), 0
    for i in range(tasks):
        phi = maml_rl.adapt(small, theta, one(before64, i), alpha)
        total += maml_rl.surrogate(small, phi, sampled[i], one(after64, i)) / tasks
    return total, sum(divergence_through(i, vector) for i in range(tasks)) / tasks


b = grad(lambda v: judged(v)[0])(at)
damped = dense + 1e-5 * eye
natural, _ = conjugate_gradient(lambda v: damped @ v, b)  # ten iterations
step = -(2 * row.max_kl / (b @ natural)).sqrt() * natural
for shorter in range(15):
    new = at + 0.8**shorter * step
    loss_now, divergence_now = judged(new)
    if loss_now < judged(at)[0] and divergence_now <= row.max_kl:
        break
package, _ = maml_rl.meta_update(
    small, tiny, before64, after64, inner_lr=alpha, max_kl=row.max_kl
)
moved, by_package = new - at, batch.vector(package) - at
notebook.check("the update is the package's", off(by_package, moved), "<", 1e-6)

# %% [markdown]
# ## What is easily got wrong
#
# A reimplementation with a slip in it still learns something, which makes the slip hard to see. Four that are easily made:
#
# - **Log-densities averaged over the components of an action** instead of summed. Libraries give them one by one, and a
#   `mean()` at the end looks innocent. It divides $\alpha$ by their number: by 2 here, by 6 for the HalfCheetah, by 8
#   for the Ant. In the outer loss it takes a root of the {term}`likelihood ratio`.
# - **The baseline of another batch.** The advantages after adaptation need a baseline fitted *after* adaptation, since the
#   returns have changed; to change them was the purpose.
# - **A gradient that does not pass through the inner step**: first-order MAML under another
#   name ({numref}`Exercise %s <ex-navigation-first-order>`).
# - **Log-densities of clipped actions.** The environment clips, the policy does not: the density is that of the action as drawn.
#
# The first two in numbers:


# %%
def averaged_loss(params, steps):
    return -(steps.weights * steps.advantages * log_density(params, steps) / 2).sum()


right, wrong = (grad(f)(theta64, one(before64, 0)) for f in (loss, averaged_loss))
off = max((2 * wrong[name] - right[name]).abs().max() for name in right)
notebook.check("averaged over two components, it is half as long", off, "<", 1e-12)


# %%
def points(episodes, task):
    """What a task's baseline is fitted on: features and returns of steps that count."""
    mask = episodes.valid[task]
    features = returns.baseline_features(
        episodes.observations[task], episodes.time[task]
    )
    rewards, last = episodes.rewards[task], episodes.last[task]
    return features[mask], returns.discounted_returns(rewards, last, row.discount)[mask]


def left_over(fit_on, use_on):
    """Share of the returns' variance that a baseline of one batch leaves in another."""
    features, targets = use_on
    rest = targets - features @ returns.fit_baseline(*fit_on)
    return rest.var() / targets.var()


goals = env.task.sample(np.random.default_rng(0), tasks)
everyone = policies.spread(theta, tasks)
first = sample(env, policy, everyone, rollouts, (0, 0), goals)
fast = maml_rl.adapt_each(policy, everyone, to_steps(first, row.discount), alpha)
second, again = (
    sample(env, policy, fast, rollouts, key, goals) for key in ((0, 1), (1, 1))
)

# %%
own, old, other = (
    np.mean([left_over(points(batch, i), points(second, i)) for i in range(tasks)])
    for batch in (second, first, again)
)
text = "variance left over by a baseline of before the step, over that of its own batch"
notebook.check(text, old / own, ">", 1.5)
text = "... over that of another batch of after the step"
notebook.check(text, old / other, ">", 1.5)

# %% [markdown]
# The second check is the fair one: a baseline is always better on the batch that it was fitted on. That is with an untrained policy, which one step hardly changes. The better MAML works, the more the returns of the two batches
# differ, and the worse the old baseline is.
#
# ## A live run
#
# The quick scale is the same row with fewer and smaller iterations:

# %% tags=["hide-input"] mystnb={"markdown_format": "myst"}
quick = row.at("quick")
settings = {"paper": row, "quick": quick}
per_iteration = {
    k: 2 * r.meta_batch_size * r.rollouts * env.horizon for k, r in settings.items()
}
test = row.evaluations[0]
lines = {
    "meta-batch, tasks": {k: str(r.meta_batch_size) for k, r in settings.items()},
    "rollouts $K$ per task and gradient": {
        k: str(r.rollouts) for k, r in settings.items()
    },
    "iterations": {k: str(r.iterations) for k, r in settings.items()},
    "steps of an environment": {
        k: f"{r.iterations * per_iteration[k]:,}" for k, r in settings.items()
    },
    "inner step α, training": {k: str(r.inner_lr) for k, r in settings.items()},
    "bound δ of the divergence": {k: str(r.max_kl) for k, r in settings.items()},
    "discount": {k: str(r.discount) for k, r in settings.items()},
    "gradient steps, test": {k: ", ".join(map(str, test.inner_lrs)) for k in settings},
    "rollouts per gradient, test": {k: str(test.rollouts) for k in settings},
}
frame = pd.DataFrame([{"setting": words} | line for words, line in lines.items()])
notebook.table(
    frame,
    "Settings of the run that the paper plots, and of the live run.",
    "tab-navigation-settings",
    right=("paper", "quick"),
)

# %%
fit = train.fit(quick, seed=0)
log = fit.log.set_index("iteration")
begin, end = log.iloc[:5].mean(), log.iloc[-5:].mean()
print(f"trained for {fit.iteration} iterations")
notebook.check("every divergence is within the bound", log.kl.max(), "<=", quick.max_kl)
text = "the return after the inner step rises by 20 from the first to the last five"
notebook.check(text, end.return_after - begin.return_after, ">", 20)
text = "in the last five, the inner step itself gains 10 or more"
notebook.check(text, end.return_after - end.return_before, ">", 10)

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-navigation-quick"}, "image": {"alt": "Return over iterations. Both curves start far below minus forty. The one before the inner step rises to about the dashed line near minus forty and stays there; the one after the inner step goes on rising, well above it.", "width": "560px"}}
fig, ax = plt.subplots(figsize=(6.0, 3.2))
plots_rl.training_returns(ax, fit.log, blind=-38.26)
ax.legend(loc="lower right")
ax.xaxis.get_major_locator().set_params(integer=True)
plt.show()

# %% [markdown] tags=["caption"]
# The live run: mean return over the tasks of each iteration, before and after the inner step. The dashed line is the best that a
# policy blind to the goal can have on average over all goals, {eq}`eq-navigation-blind`. The dotted curve can lie above it by chance: an iteration has only
# a few goals, and some draws of them are nearer than others.

# %% [markdown]
# Two things are learned, one after the other. First to stay in the middle, which every task rewards, and which pretraining learns too.
# Then to be *ready*: to act, around the origin, so variedly that a few episodes (ten here, twenty in the paper) show in which direction it gets better, with
# parameters whose gradient then turns all actions that way at once.
#
# {numref}`fig-navigation-trajectories`, at the top, shows the same of the committed runs for four of the paper's test goals, as the bottom of its
# Fig. 4 does; each step there has forty new episodes. MAML waits in the middle and leaves it, after one step, straight towards the goal; the later
# steps make up the rest. The pretrained policy knows that it should stay in the middle, too, but was not trained to be turned.
#
# ## Figure 4
#
# Mean returns over the forty goals. The published values are those of the authors' released figure data, with the intervals that these
# give (the figure itself shades 68 %, ours and those below are 95 %). One training run each of theirs; ours are three of MAML, each drawn,
# and one of the others.

# %%
published = results.published()


def printed(method):
    lines = published[published.row == f"{NAME}-{METHODS[method]}"]
    return lines.set_index("step")[["value", "ci95"]]


def measured(method):
    found = results.load(f"{NAME}-{METHODS[method]}")
    return plots.mean_curve(found, "40 goals", "return")


theirs = {method: printed(method) for method in METHODS}
ours = {method: measured(method) for method in METHODS}

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-navigation-curves"}, "image": {"alt": "Two panels, the second with the part of the first above minus fifty. Return over gradient steps 0 to 3. The paper's curves: MAML from minus forty steeply up to minus twelve at the first step and to minus three at the second and third; the pretrained policy from minus forty-one up to minus eight, more slowly; the random initialisation from minus eighty-three to minus forty-seven; the oracle a level line at minus two. Ours are drawn over them: two of three seeds of MAML lie on the paper's, the third begins at minus 162 and ends at minus 15."}}
others = {method: curve for method, curve in ours.items() if method != "MAML"}
of_seeds = {
    result["seed"]: plots.mean_curve([result], "40 goals", "return")
    for result in results.load(row.name)
}
fig, axes = plt.subplots(1, 2, figsize=(7.6, 4.4))
for ax in axes:
    for number, curve in enumerate(of_seeds.values()):
        given = plots_rl.style_of("MAML") | {"capsize": 2, "zorder": 4}
        label = None if number else "MAML, each seed"
        ax.errorbar(curve.index, curve.value, curve.ci95, **given, label=label)
    plots_rl.return_curves(ax, others, theirs)
    for level in (blind, straight):
        ax.axhline(level, color=plots.COLOURS["black"], linestyle=":", linewidth=0.9)
if of_seeds:
    lowest = min(of_seeds, key=lambda seed: of_seeds[seed].value[0])
    start = of_seeds[lowest].value[0]
    place = {"xytext": (0.3, start), "va": "center", "color": plots.COLOURS["blue"]}
    axes[0].annotate(f"seed {lowest}", (0, start), **place)
axes[0].set_title("all")
axes[1].set(title="the same above −50", ylim=(-50, 0), ylabel="")
entries = zip(*reversed(axes[0].get_legend_handles_labels()))
first = sorted(entries, key=lambda entry: entry[0] != "MAML, each seed")
labels, handles = zip(*first)
fig.legend(handles, labels, loc="outside lower center", ncols=3)
plt.show()

# %% [markdown] tags=["caption"]
# Return on the forty test goals after 0 to 3 gradient steps; the second panel shows the upper part of the first. Full lines: ours, with 95 % intervals over goals, of MAML a line for each seed; dashed:
# the paper's. The oracle is not adapted. Dotted lines: the two bounds, the best blind policy (before adaptation) and going straight
# to the goal.

# %% [markdown]
# What can be said of the paper's figure, in its words or in ours, and whether it holds of theirs and in how many of our seeds:

# %% tags=["hide-input"] mystnb={"markdown_format": "myst"}
behind = lambda r: r["random initialisation"][3] < r["MAML"][0]
STATEMENTS = {
    "Before adaptation MAML is within 5 of the best blind policy.": lambda r: (
        abs(r["MAML"][0] - blind) < 5
    ),
    "MAML gains more in one step than the pretrained policy does.": lambda r: (
        r["MAML"][1] - r["MAML"][0] > r["pretrained"][1] - r["pretrained"][0]
    ),
    "After one step MAML is above the pretrained policy.": lambda r: (
        r["MAML"][1] > r["pretrained"][1]
    ),
    "MAML still gains at the second step.": lambda r: r["MAML"][2] > r["MAML"][1],
    "After three steps the random initialisation is not yet where MAML starts.": behind,
    "The oracle is above all others.": lambda r: all(
        r["oracle"][0] > max(r[m]) for m in METHODS if m != "oracle"
    ),
}


def by_seed(statement):
    """The answer where all seeds agree, else in how many it holds."""
    each = [
        notebook.answer(statement, ours | {"MAML": curve})
        for curve in of_seeds.values()
    ]
    every = dict.fromkeys(each or [notebook.answer(statement, ours)])
    return (
        next(iter(every))
        if len(every) == 1
        else f"in {each.count('yes')} of {len(each)} seeds"
    )


lines = [
    {"statement": words, "paper": notebook.answer(f, theirs), "ours": by_seed(f)}
    for words, f in STATEMENTS.items()
]
notebook.table(
    pd.DataFrame(lines),
    "Statements about Fig. 4.",
    "tab-navigation-statements",
    right=(),
)

# %% tags=["hide-input"] mystnb={"markdown_format": "myst"}
frame = pages.side_by_side("Fig. 4")
right = ("steps", "paper", "ours", "difference")
notebook.table(
    frame,
    "Fig. 4 of the paper in numbers: return, ± 95 % over test goals, of our MAML over "
    "training runs.",
    "tab-navigation",
    right,
)

# %% [markdown]
# A verdict compares with a margin of a tenth of what MAML gains in its first step in the paper, or of what the method's own
# curve spans, if that is less. It is explained on the
# [results page](../book/results.md), where the origin of our numbers stands.
#
# ### A seed that does not look around
#
# Two of our three seeds do what the paper's run does. The third begins far below the best blind policy, and three steps later it is not yet where the others
# are after one. Moves are cut at 0.1, so of an action's mean and noise hardly more than the sign counts. A policy that
# is to find the goal has to go right at times and left at times. {numref}`tab-navigation-seeds` has the probabilities, for the mean and the noise that each
# policy has at the origin:

# %% tags=["hide-input"] mystnb={"markdown_format": "myst"}
cdf = torch.distributions.Normal(0, 1).cdf
_, gaussian = policies.build(row, 1, 1)
seed_lines, chances = [], {}
for result in results.load(row.name):
    seed, means = (
        result["seed"],
        result["evaluations"]["40 goals"]["return"]["mean"],
    )
    p = checkpoints.load_params(results.checkpoint(row.name, seed))
    at_origin = gaussian.mean(p, torch.zeros(1, 2))[0]
    chances[seed] = cdf(at_origin / p["log_std"].exp()).tolist()
    line = {"seed": str(seed)}
    line |= {
        f"step {k}": f"{value:.1f}".replace("-", "−") for k, value in enumerate(means)
    }
    line |= {
        f"goes {way}": f"{100 * chance:.0f} %"
        for way, chance in zip(("right", "up"), chances[seed])
    }
    seed_lines.append(line)
seed_lines = seed_lines or [{"seed": "not run"}]
caption = (
    "MAML's seeds: return on the forty test goals by gradient step, and how often the "
    "policy before adaptation, at the origin, goes right and up."
)
right = [column for column in seed_lines[0] if column != "seed"]
notebook.table(pd.DataFrame(seed_lines), caption, "tab-navigation-seeds", right)

# %%
if chances:
    notebook.check("seeds of MAML, of which the text speaks", len(chances), "==", 3)
    nearest = min(min(c, 1 - c) for seed in (0, 1) for c in chances[seed])
    notebook.check("seeds 0 and 1 take every way now and then", nearest, ">", 0.1)
    notebook.check("seed 2 never goes right or up", max(chances[2]), "<", 1e-4)

# %% [markdown]
# The mean of the third has run far beyond the cut, where a change of it changes nothing that happens. All its episodes leave to the same corner, whatever
# the noise, so their returns say little about any other way, and the outer gradient that could bring the mean back is made of such episodes. What one step
# still repairs, it repairs from there. Nothing in the objective forbids it: the return *before* the step does not count. Whether a run of the authors
# ever ended so is not known; they report one. With three seeds that lie so far apart the interval over seeds says no more than that one run
# is not to be trusted with a number, and {numref}`tab-navigation` calls MAML's *inconclusive*.
#
# ### One random network
#
# The random initialisation is a single network, in the paper and here. Its interval is over goals and does not know that another draw
# would have started elsewhere. Six draws on the same goals, before any step, with tanh as in the authors' script, and with the rectified units that the
# paper speaks of ([item 16](deviation-16)):

# %%
random_row = paper.get(f"{NAME}-random")
no_step = dataclasses.replace(random_row.evaluations[0], inner_lrs=(), headline_step=0)
starts = {}
for activation in ("tanh", "relu"):
    units = dataclasses.replace(random_row, activation=activation)
    draws = [train.fit(units, seed=seed).params for seed in range(6)]
    returns_of = lambda params: policies.evaluate(units, params, no_step)["return"]
    starts[activation] = np.array([returns_of(params).mean() for params in draws])
STATISTICS = {"mean": np.mean, "lowest": np.min, "highest": np.max}
wide = 2 * theirs["random initialisation"].ci95[0]
print(f"the paper's interval is {wide:.1f} wide")
text = "six draws with tanh are spread over five times as much"
notebook.check(text, np.ptp(starts["tanh"]) / wide, ">", 5)
notebook.check(
    "six with rectified units over twice", np.ptp(starts["relu"]) / wide, ">", 2
)
apart = abs(starts["relu"].mean() - starts["tanh"].mean())
text = "on average the two differ by less than draws of either"
notebook.check(text, apart / np.ptp(starts["relu"]), "<", 1)

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"markdown_format": "myst"}
of_draws = lambda of, values: f"{of(values):.1f}".replace("-", "−")
lines = [
    {"units": words}
    | {name: of_draws(of, starts[activation]) for name, of in STATISTICS.items()}
    for activation, words in {"tanh": "tanh (the code)", "relu": "rectified"}.items()
]
text = "Return of six random networks before any step, on the paper's forty goals."
notebook.table(pd.DataFrame(lines), text, "tab-navigation-random", right=STATISTICS)

# %% [markdown]
# So a verdict on this row would compare two draws, and there is none; which units the network has matters less than which draw it is. For trained policies the same holds of the training run as a whole, with a
# spread that one run cannot tell.
#
# ### A vector instead of all weights
#
# The appendix holds MAML against a network that sees a vector $z$ behind every observation. The inner step moves $z$ alone; $z$ and all else
# is meta-learned. Of its length, first values and steps nothing is said: ours has five numbers, as the authors' code had for sinusoids, drawn as weights are, and
# MAML's steps. What $z$ does is part of the first layer's bias, so the same passes give its derivatives.

# %% tags=["hide-input"] mystnb={"markdown_format": "myst"}
frame = pages.side_by_side("Table 4")
caption = "Table 4 of the paper, the context vector: return on the forty test goals."
notebook.table(frame, caption, "tab-navigation-context", right)

# %% [markdown]
# Where it was run, it does what MAML does: such a task is a goal, two numbers, and five can hold it. Where tasks differ in more than a
# vector among the inputs can say, that is another matter (Table 5, on the [results page](../book/results.md)).
#
# ### The learning curve

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-navigation-training"}, "image": {"alt": "Return over a hundred iterations. The curve before the inner step rises to about minus forty and stays there; the one after the inner step rises further.", "width": "560px"}}
fig, ax = plt.subplots(figsize=(6.0, 3.2))
path = results.checkpoint(row.name).with_suffix(".metrics.csv")
if path.exists():
    plots_rl.training_returns(ax, pd.read_csv(path), blind=-38.26)
    ax.legend(loc="lower right")
else:
    ax.text(0.5, 0.6, "not run", ha="center", va="center", transform=ax.transAxes)
ax.set(xlabel="iteration", ylabel="return", xlim=(0, row.iterations))
plt.show()

# %% [markdown] tags=["caption"]
# The committed run of MAML: mean return over the tasks of each iteration. Dashed: the best that a policy blind to the goal can
# have on average over all goals. The dotted curve can lie above it by chance, as in {numref}`fig-navigation-quick`.

# %% [markdown]
# ### Evaluated again
#
# The committed parameters, on the first ten of the forty goals, with new random numbers: before adaptation and after one step
# from forty new episodes. The differences from the committed returns of the same goals should average to zero. We ask for
# five standard errors, estimated from the ten differences themselves; with so few, four would be exceeded by chance
# about once in 300 times.


# %%
notebook.source(rederive.of_policy)

# %%
if results.load(row.name):
    far = rederive.standard_errors(row.name, tasks=10)
    text = "ten goals agree at both steps, in standard errors"
    notebook.check(text, max(far.values()), "<", 5)
else:
    print("not run: MAML")

# %% [markdown]
# ## Where this differs from the authors' runs
#
# - **From the text** in reward, end of an episode and $\alpha$, as above, to be like the code that made the figure. The text's $\alpha$
#   is a row of its own, `2d-navigation-maml-as-printed`.
# - **Fisher products** are exact, not finite differences ([item 13](deviation-13)).
# - **Noise** is drawn for every goal and episode; the authors test all goals with the same random numbers.
# - **The pretrained policy** is what its file name in the authors' data says: the meta-learning program with the inner step switched off,
#   which takes a hundred steps of Adam on the mean policy gradient. That is little training, and a better pretrained policy
#   might well adapt better.
# - **The random initialisation** has tanh units, as in the authors' script ([item 16](deviation-16)).
#
# ## Summary
#
# - Algorithm 3 is Algorithm 1 with data that depend on the parameters: support from $f_\theta$, query from $f_{\theta'_i}$.
# - The {term}`trust region` needs no third derivatives: $(I - \alpha H) F (I - \alpha H)$ is exact.
# - A policy that does not know its goal has at most about −38 on average, and −39 on the test goals. What is above is adaptation.
# - Our numbers beside the paper's: {numref}`tab-navigation`.
#
# ## Exercises
#
# ```{exercise}
# :label: ex-navigation-reinforce
#
# Show that the gradient of the outer loss at the sampling parameters is $(I - \alpha H)$ times the REINFORCE gradient of
# the trajectories $\mathcal{D}'_i$. Which property of the likelihood ratio do you need?
# ```

# %% [markdown]
# ```{solution-start} ex-navigation-reinforce
# :class: dropdown
# ```
#
# $\nabla (p / p_0) = (p / p_0) \nabla \log p$, and the ratio is 1 at the sampling parameters. There the outer loss has the gradient of
# the inner loss with the same data, with respect to $\theta'_i$; the chain rule supplies $I - \alpha H$.

# %%
steps = [one(before64, 0), one(after64, 0)]
fast = adapted(theta64, steps[0])
reinforce = grad(loss)(fast, steps[1])
pulled = torch.func.vjp(lambda p: adapted(p, steps[0]), theta64)[1](reinforce)[0]
outer = grad(meta_loss)(theta64, *steps, fast)
off = max((pulled[name] - outer[name]).abs().max() for name in outer)
notebook.check("they are equal, but for rounding", off, "<", 1e-12)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise}
# :label: ex-navigation-first-order
#
# How much of the meta-gradient is lost without the factor $I - \alpha H$? Compare the two directions by their cosine, at the
# random initialisation and at the end of the live run.
# ```

# %% [markdown]
# ```{solution-start} ex-navigation-first-order
# :class: dropdown
# ```
#
# By the last exercise the first-order gradient is the REINFORCE gradient of the adapted policies, averaged over tasks.

# %% tags=["nbval-ignore-output"]
cosine = {}
for name, params in {"random initialisation": theta, "live run": fit.params}.items():
    exact, before, after = meta_gradient(params, number=0)
    fast = vmap(adapted, (None, 0))(params, before)
    short = {k: g.mean(0) for k, g in vmap(grad(loss))(fast, after).items()}
    pair = [torch.cat([g[k].flatten() for k in exact]) for g in (exact, short)]
    cosine[name] = float(torch.cosine_similarity(*pair, dim=0))
    print(f"{name}: {cosine[name]:.2f}")

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise}
# :label: ex-navigation-differences
#
# The authors' code has the products with $G$ by differences, $Gv \approx (\nabla D(\theta + \epsilon v) - \nabla D(\theta - \epsilon v))
# / 2\epsilon$, in single precision, with $\epsilon = \epsilon_0 / \lVert \theta \rVert$. Meant was $\epsilon_0 = 10^{-8}$, but through a slip of
# arguments it is 1 ([item 13](deviation-13)). Was that harm or luck? Take $v = b$.
# ```

# %% [markdown]
# ```{solution-start} ex-navigation-differences
# :class: dropdown
# ```
#
# Luck, for this $v$. $b$ is so short that even $\epsilon_0 = 1$ makes a small step, while with $10^{-8}$ the differences drown in rounding.


# %%
direction, before, after = meta_gradient(theta, number=0)
sampled = vmap(adapted, (None, 0))(theta, before)


def divergence_gradient(size):
    def mean_divergence(params):
        apart = lambda b, a, f: maml_rl.divergence(policy, adapted(params, b), f, a)
        return vmap(apart)(before, after, sampled).mean()

    moved = {name: value + size * direction[name] for name, value in theta.items()}
    return batch.vector(grad(mean_divergence)(moved))


batch = maml_rl.MetaBatch(policy, theta, before, after, alpha)
exact = batch.fisher(batch.vector(direction))
error = {}
for base in (1e-8, 1.0):
    eps = base / float(batch.vector(theta).norm())
    product = (divergence_gradient(eps) - divergence_gradient(-eps)) / (2 * eps)
    error[base] = float((product - exact).norm() / exact.norm())
text = "1e-8: the error is larger than the product itself"
notebook.check(text, error[1e-8], ">", 1)
notebook.check("1: the error is below 20 %", error[1.0], "<", 0.2)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise}
# :label: ex-navigation-alpha
#
# The policy of the live run has been trained for a step of 0.5. What becomes of its first step in a test with the text's
# $\alpha = 0.1$? And is a step of 2 better still?
# ```

# %% [markdown]
# ```{solution-start} ex-navigation-alpha
# :class: dropdown
# ```
#
# $\theta$ has been learned together with $\alpha$: a short step goes a short way, and a long one overshoots.

# %%
gain = {}
for size in (0.1, 0.5, 2.0):
    test = dataclasses.replace(row.evaluations[0], inner_lrs=(size,))
    found = policies.evaluate(quick, fit.params, test, goals=test_goals[:10], seed=3)[
        "return"
    ]
    gain[size] = float(np.diff(found).mean())
text = "a step of 0.1 gains less than half of what 0.5 gains"
notebook.check(text, gain[0.1] / gain[0.5], "<", 0.5)
notebook.check("a step of 2 does harm", gain[2.0], "<", 0)

# %% [markdown]
# ```{solution-end}
# ```
