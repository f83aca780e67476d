"""The two-step task: its probabilities, who stays after what, and the best that can be done."""

from itertools import product

import numpy as np
import pytest
import torch

from mamlkit.rl import bandit_values, memory, two_step
from mamlkit.rl.two_step import COMMON, PAYS, STAYS, TwoStep, by_model, by_reward

ERRORS = 5  # standard errors: wrong in one of 1.7 million seeds
ROUNDS = 30


def played(way, tasks=2000, rounds=ROUNDS, seed=0):
    some = TwoStep(*two_step.sample(seed, tasks, rounds))
    return some, two_step.play(way, some)


def at_random(draw):
    return lambda chosen, reached, paid: torch.randint(0, 2, (len(chosen),), generator=draw)


def test_transitions_and_rewards_have_their_probabilities():
    some, trials = played(at_random(torch.Generator().manual_seed(0)))
    better = two_step.sample(0, 2000, ROUNDS)[0]
    chosen, state = trials.actions[:, ::2].numpy(), trials.observations[:, 1::2].argmax(-1).numpy() - 1
    paid, count = trials.rewards[:, 1::2].numpy(), 2000 * ROUNDS
    near = lambda share, chance, n: abs(share - chance) < ERRORS * np.sqrt(chance * (1 - chance) / n)
    assert near((chosen == state).mean(), COMMON, count)
    right = state == better[:, None]
    assert near(paid[right].mean(), PAYS, right.sum()) and near(paid[~right].mean(), 1 - PAYS, (~right).sum())
    assert near(better.mean(), 0.5, 2000) and not trials.rewards[:, ::2].any()
    assert (trials.observations[:, ::2].argmax(-1) == 0).all()
    assert trials.ended[:, 1::2].all() and not trials.ended[:, ::2].any()
    assert np.isclose(some.measured(trials)["return"][:, 0], paid.sum(1)).all()


def test_what_is_done_in_the_second_state_changes_nothing():
    better, luck = two_step.sample(1, 50, 4)
    both = []
    for other in (0, 1):
        some = TwoStep(better, luck)
        some.begin()
        steps = [some.step(torch.full((50,), other * (time % 2))) for time in range(some.time)]
        both.append(torch.stack([step.rewards for step in steps]))
    assert torch.equal(*both)


def by_histories(rounds):
    """The best play by going through all that may be seen: slow, and knows nothing of hints."""

    def value(seen, left):
        if left == 0:
            return 0.0
        belief = np.array([0.5, 0.5])
        for state, paid in seen:
            chance = np.where(np.arange(2) == state, PAYS, 1 - PAYS)
            belief = belief * (chance if paid else 1 - chance)
        belief = belief / belief.sum()
        of_actions = []
        for action in range(2):
            total = 0.0
            for state, paid in product(range(2), range(2)):
                way = COMMON if state == action else 1 - COMMON
                chance = belief[state] * PAYS + belief[1 - state] * (1 - PAYS)
                total += (
                    way * (chance if paid else 1 - chance) * (paid + value([*seen, (state, paid)], left - 1))
                )
            of_actions.append(total)
        return max(of_actions)

    return value([], rounds)


def test_the_best_possible_is_that_of_all_histories_and_is_reached_by_counting_hints():
    for rounds in (1, 2, 4):
        assert two_step.best_total(rounds) == pytest.approx(by_histories(rounds))
    bound = two_step.best_total(ROUNDS)
    for way, reaches in (
        (by_model, True),
        (by_reward, False),
        (at_random(torch.Generator().manual_seed(1)), False),
    ):
        some, trials = played(way)
        total = some.measured(trials)["return"][:, 0]
        error = total.std(ddof=1) / np.sqrt(len(total))
        assert total.mean() < bound + ERRORS * error
        assert (abs(total.mean() - bound) < ERRORS * error) == reaches
    # as in a bandit of two arms that pay 0.9 and 0.1, of which one knows as much
    right = bandit_values.shares_right(10, 0.9)
    assert bandit_values.optimal_known_pair(10, 0.9) == pytest.approx((0.1 + 0.8 * right).sum())


def test_the_best_play_repeats_its_last_action_where_as_many_rounds_point_to_each_state():
    pairs = list(product((0, 1), repeat=2))
    chosen = torch.tensor(pairs)
    second = torch.ones_like(chosen)
    paid = torch.tensor([[1.0, 0.0]]).expand(4, 2)  # once for this state, and once against it
    assert by_model(chosen, second, paid).tolist() == [last for _, last in pairs]
    for reached, pays, wanted in ((1, 1.0, 1), (1, 0.0, 0), (0, 1.0, 0), (0, 0.0, 1)):
        every = torch.full_like(chosen, reached), torch.full((4, 2), pays)
        assert by_model(chosen, *every).tolist() == [wanted] * 4
    none = torch.zeros(4, 0, dtype=torch.long)
    assert by_model(none, none, none).tolist() == [0] * 4


def test_stays_tell_who_knows_the_model_from_who_does_not():
    rates = {}
    for way in (by_model, by_reward):
        found = two_step.stays(played(way, rounds=3)[1])
        assert list(found) == list(STAYS) and sum(n for _, n in found.values()) == 2000 * 2
        rates[way] = [stayed / n for stayed, n in found.values()]
    assert rates[by_reward] == [1, 1, 0, 0]
    common, rare, without, rare_without = rates[by_model]
    assert common > 0.99 and rare_without > 0.99 and rare < 0.7 and without < 0.7


def test_stays_by_hand():
    seen = torch.tensor([[0, 1, 0, 2, 0, 2]])  # twice action 0: common, rare; then 1: common
    actions = torch.tensor([[0, 1, 0, 1, 1, 1]])
    rewards, none = torch.tensor([[0.0, 1, 0, 0, 0, 1]]), torch.zeros(1, 6)
    trials = memory.Trials(
        torch.nn.functional.one_hot(seen, 3).float(), actions, rewards, none, none, none == 0
    )
    wanted = {"rewarded, common": (1, 1), "rewarded, rare": (0, 0), "unrewarded, common": (0, 0)}
    assert two_step.stays(trials) == wanted | {"unrewarded, rare": (0, 1)}


def test_what_makes_no_task_is_refused():
    with pytest.raises(ValueError, match="rounds=0"):
        two_step.sample(0, 3, 0)
    with pytest.raises(ValueError, match=r"must be \[tasks, 2 \* rounds\]"):
        TwoStep(np.zeros(3, int), np.zeros((3, 5)))
    with pytest.raises(ValueError, match=r"better=0\.4"):
        bandit_values.shares_right(3, 0.4)
