"""Q-learning with small networks, many side by side: targets and losses.

Source: Mnih et al. 2015, "Human-level control through deep reinforcement learning"; the policy head that
imitates the best action of Q is that of Plappert et al. 2018, section 3. Tensors begin with an axis of
``members``: networks that are trained side by side and know nothing of each other.
"""

__all__ = ["Batch", "losses", "targets"]

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mamlkit.rl.side_by_side import Networks


class Batch(NamedTuple):
    """Steps from memory.

    Args:
        seen: observations before the step, ``[members, points, inputs]``.
        actions: int64 ``[members, points]``.
        rewards: ``[members, points]``.
        after: observations after it, as ``seen``.
        ended: whether it was the last one of its episode, bool ``[members, points]``.
    """

    seen: Tensor
    actions: Tensor
    rewards: Tensor
    after: Tensor
    ended: Tensor


def targets(rewards: Tensor, ended: Tensor, values: Tensor, discount: float) -> Tensor:
    """What Q of a step should be: its reward, and what the best next action is worth if there is one.

    Args:
        rewards, ended: ``[members, points]``.
        values: of the actions after the step, by the copy of Q that lags behind, ``[members, points,
            actions]``.
        discount: gamma.

    Example:
        >>> values = torch.tensor([[[1.0, 3.0], [1.0, 3.0]]])
        >>> targets(torch.tensor([[1.0, 1.0]]), torch.tensor([[False, True]]), values, 0.5)
        tensor([[2.5000, 1.0000]])
    """
    return rewards + discount * values.max(-1).values * ~ended


def losses(
    networks: Networks, q: Tensor, policy: Tensor | None, lagging: Tensor, batch: Batch, discount: float
) -> Tensor:
    """Each member's loss, ``[members]``: Huber's of Q and, of a policy head, the cross-entropy to its best.

    Args:
        networks: the shape of all.
        q: parameters of Q, ``[members, numbers]``.
        policy: those of the policy heads; None where there are none.
        lagging: the copy of ``q`` from some steps ago.
        batch: steps from memory.
        discount: gamma.
    """
    with torch.no_grad():
        wanted = targets(batch.rewards, batch.ended, networks.outputs(lagging, batch.after), discount)
    values = networks.outputs(q, batch.seen)
    chosen = values.gather(-1, batch.actions[..., None])[..., 0]
    loss = F.huber_loss(chosen, wanted, reduction="none").mean(-1)
    if policy is None:
        return loss
    best = values.detach().argmax(-1, keepdim=True)
    return loss - networks.outputs(policy, batch.seen).log_softmax(-1).gather(-1, best)[..., 0].mean(-1)
