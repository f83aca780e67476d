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
# # Learning to explore and to remember
#
# ```{admonition} This chapter
# - **claims** that a recurrent policy can learn to explore: what MAML does by a gradient step, RL² {cite:p}`duan2016rl2` does in its
#   state, without one. On bandits, where the best possible play is known, one can see how good that is;
# - **takes** about a minute on two CPU cores; long trainings are committed results;
# - **assumes** [chapter 5](05-navigation.ipynb), and of [chapter 11](11-sequences-and-memory.ipynb) the idea of a memory.
# ```

# %% tags=["hide-input"]
import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import torch

from mamlkit import measures
from mamlkit.experiments import paper
from mamlkit.experiments.bandits import BanditEvaluation, name_of
from mamlkit.report import bandits as tables
from mamlkit.report import notebook, plots
from mamlkit.rl import bandit_values, bandits, memory, trials
from mamlkit.runs import bandits as runs
from mamlkit.runs import devices, seeds, train
from mamlkit.runs import memory as of_memory

devices.set_up("cpu", threads=1)  # networks are small: more threads would only wait
plots.use_style()

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Two independent arms, 100 pulls: how much less than the better arm each pull pays on average, over 4,000 bandits. Who pulls at random stays at 1/6. Greedy play stops exploring too soon, Thompson sampling too late.", "name": "fig-bandits-regret"}, "image": {"alt": "Regret of a pull against the number of the pull, falling from one sixth: random stays, Thompson sampling falls slowly, greedy falls fast and levels off, UCB1 with a narrow bound and Gittins indices fall to almost nothing."}}
PULLS, COUNT = 100, 4000
WAYS = {
    "random": bandits.random,
    "greedy": bandits.greedy,
    "Thompson": bandits.thompson,
    "UCB1": bandits.ucb1(0.2),
    "Gittins": bandits.gittins(PULLS, 0.99),
}
arms = bandits.sample_arms(0, COUNT, 2)
regrets = {
    name: bandits.regret(arms, bandits.play(way, arms, PULLS, 0).actions)
    for name, way in WAYS.items()
}
fig, ax = plt.subplots(figsize=(6.4, 3.4))
for (name, missed), colour in zip(regrets.items(), plots.COLOURS.values()):
    ax.plot(np.arange(1, PULLS + 1), missed.mean(0), color=colour, label=name)
ax.set(xlabel="pull", ylabel="regret of the pull", ylim=(0, 0.18))
ax.legend()
plt.show()

# %% [markdown]
# ## The smallest task in which to explore
#
# A **bandit** has $k$ arms. Arm $i$ pays 1 with probability $p_i$, else 0. You do not know the $p_i$, and have $n$ pulls. Each pull pays, and
# each tells something. To pull what looked best so far is to **exploit**; to pull what you know little of is to **explore**. The distribution
# $p(\mathcal{T})$ over tasks is a distribution over bandits: here each $p_i$ is uniform between 0 and 1.
#
# {numref}`fig-bandits-regret` has five classical ways to play. They are formulas of the wins and losses of each arm so far:
#
# - **greedy**: the best mean, each arm having won and lost once before it begins;
# - **Thompson sampling**: draw each $p_i$ from what is believed of it, and pull the largest draw;
# - **UCB1**: the mean, and a bonus $c\sqrt{2\log t / T_i}$ for what was pulled $T_i$ times only;
# - **Gittins indices** {cite:p}`gittins1979bandit`: for each arm the pay of a *known* arm that would be as good to have. With rewards that are discounted for ever, to pull the
#   highest index is the best possible play.
#
# Of two arms the best possible play of $n$ pulls can be computed, by going back from the last pull over all that may have been seen.

# %%
notebook.source(bandit_values.optimal_independent)

# %% [markdown]
# This is a bound. Whoever learns to play these bandits, by whatever method, has no smaller regret on average.

# %%
least = PULLS * bandit_values.best_arm(2) - bandit_values.optimal_independent(PULLS)
print(f"best possible: a regret of {least:.3f} in {PULLS} pulls")
for name, missed in regrets.items():
    mean, ci95 = measures.interval(missed.sum(1))
    print(f"{name:10} {mean:6.2f} ± {ci95:.2f}")
    text = f"{name}: not below the best possible by more than chance"
    notebook.check(text, mean + 2.5 * ci95, ">", least)

# %% [markdown]
# ## RL²: the state learns
#
# {cite:t}`duan2016rl2` take a recurrent network as the policy, and let it see what it needs in order to learn. Before each pull the network gets the arm
# that it pulled last, the reward that this gave, and a flag that an episode has ended. (In a bandit an episode is one pull, so the flag tells
# the first pull from all others.) A **trial** is all $n$ pulls of one bandit:
#
# - the state goes on from episode to episode of a trial: in it is what was learned of *this* bandit;
# - it begins at zero with each new trial: nothing of the last bandit is left;
# - the weights change between trials only, and so as to raise the reward of *whole trials*. To explore is to earn less now and more later, so
#   it pays only if later episodes count.
#
# So there are two learners. The slow one changes the weights by a policy gradient. The fast one is the recurrence itself, "reinforcement learning
# by slow reinforcement learning". In MAML the fast learner is a gradient step, which we chose; here it is whatever the slow one finds.

# %%
notebook.source(memory.inputs_of)

# %% [markdown]
# Each line ends one way in which reimplementations fail: the inputs are shifted by one, so the reward of a pull is not known before it; there
# *is* a reward among them; and nothing is reset where an episode ends.
#
# ## A small one, live
#
# Two arms of which one pays with 0.9, the other with 0.1; ten pulls. Which of them is the good one is new in each trial.

# %%
SHORT = 10
quick = {"pulls": SHORT, "units": 16, "meta_batch_size": 100, "minibatches": 2}
row = dataclasses.replace(
    paper.get(name_of(2, 100, "easy")),
    name="bandits-live",
    iterations=80,
    outer_lr=0.02,
    **quick,
)
fit = train.fit(row)
test = BanditEvaluation("live", 3000)
found = of_memory.evaluate(row, fit.params, test)["regret"][:, 0]
mean, ci95 = measures.interval(found)
bound = SHORT * 0.9 - bandit_values.optimal_known_pair(SHORT, 0.9)
print(
    f"RL² {mean:.2f} ± {ci95:.2f}, best possible {bound:.2f}, at random {SHORT * 0.4}"
)

# %%
notebook.check("RL² has learned to explore: far from random play", mean, "<", 1.5)
text = "and it is not better than possible, by more than chance"
notebook.check(text, mean + 2.5 * ci95, ">", bound)

# %% [markdown]
# Is it the state that knows? Take it away: let each pull be the first of a trial. The weights are the same.

# %%
pairs = runs.bandits_of(row, test)
better = pairs.argmax(1)[:, None]
params = {name: value.float() for name, value in fit.params.items()}
luck, draws = (
    torch.rand(len(pairs), SHORT, generator=seeds.generator(0, purpose))
    for purpose in ("luck", "draws")
)
played = memory.sample(params, trials.Bandits(pairs, luck), draws)
with_state = (played.actions.numpy() == better).mean(0)
alone = trials.Bandits(np.tile(pairs, (SHORT, 1)), luck.T.reshape(-1, 1))
no_state = memory.sample(params, alone, draws.T.reshape(-1, 1))
first = no_state.actions.numpy().reshape(SHORT, -1).T
without = (first == better).mean(0)
notebook.check("without its state it knows nothing", without.mean(), "<", 0.6)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The policy that was just trained: how likely it is to pull the better arm at each of ten pulls, with its state, and with the state set to zero before each pull; dotted: the best possible play.", "name": "fig-bandits-state"}, "image": {"alt": "With its state the policy pulls the better arm half of the time at first, nine times in ten at the second pull and nearly always from the fourth on, along the dotted curve; without, half of the time throughout."}}
totals = [bandit_values.optimal_known_pair(n, 0.9) for n in range(1, SHORT + 1)]
# from the reward of each pull: how often it is the better arm
best = (np.diff(totals, prepend=0.0) - 0.1) / 0.8
fig, ax = plt.subplots(figsize=(5.6, 3.2))
at = np.arange(1, SHORT + 1)
ax.plot(at, best, ":", color=plots.COLOURS["black"], label="best possible")
ax.plot(at, with_state, color=plots.COLOURS["blue"], label="RL²")
ax.plot(at, without, color=plots.COLOURS["grey"], label="state set to zero")
ax.set(xlabel="pull", ylabel="share of the better arm", ylim=(0, 1.02))
ax.legend()
plt.show()

# %% [markdown]
# ## The published table
#
# The table of {cite:t}`duan2016rl2` has 5, 10 and 50 arms and 10, 100 and 500 pulls. Our trainings are much smaller, and their outer learner is PPO
# {cite:p}`schulman2017proximal` in the place of TRPO. What is compared is the same: the total reward of fresh bandits.

# %% mystnb={"markdown_format": "myst"}
notebook.markdown(tables.reached().replace("tab-bandits", "tab-chapter-bandits"))

# %% [markdown]
# A mean of a thousand bandits is known to within about 0.1 of ten pulls and 1 of a hundred, so 6.6 and 6.7 in the published table do not
# differ. What RL² shows there is that it comes near the Gittins indices without having been told about them, as long as the trial is
# short. With 500 pulls and 50 arms it stays behind; the authors find that the outer learner is what fails there.
#
# ## Where this differs from the papers
#
# - **Outer learner.** PPO's clipped loss with Adam, not TRPO. The baseline is a second recurrent network, as theirs.
# - **Sizes.** 64 units where they have 256, and far fewer pulls to an update.
# - **Entropy** of the policy is rewarded, less and less; Adam's step falls to zero.
# - **Two arms** {cite:p}`wang2016learning`: the same RL² where they have an LSTM, actor-critic steps and the best five of a hundred settings.
#
# ## Exercises
#
# ```{exercise}
# :label: ex-two-pulls
#
# Two independent arms and two pulls. What is the best possible play, and what does it earn?
# ```

# %% [markdown]
# ```{solution-start} ex-two-pulls
# :class: dropdown
# ```
#
# The first pull earns ½, whichever it is. If it paid, this arm is believed to pay with ⅔; if not, the other one, of which nothing is known, pays with ½. So
# the second pull earns $\tfrac12\cdot\tfrac23 + \tfrac12\cdot\tfrac12 = \tfrac7{12}$, and both together $\tfrac{13}{12}$.

# %%
two = bandit_values.optimal_independent(2)
notebook.check("as the recursion says", abs(two - 13 / 12), "<", 1e-12)

# %% [markdown]
# ```{solution-end}
# ```
