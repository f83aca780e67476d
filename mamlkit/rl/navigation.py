"""2D navigation: a point moves to a goal it is not told. Paper: section 5.3.1; Fig. 4."""

__all__ = ["Navigation"]

import numpy as np
from numpy import ndarray
from numpy.random import Generator

from mamlkit.rl.batched import Batched
from mamlkit.rl.goals import Square

STEP = 0.1  # the largest move per coordinate and step
NEAR = 0.01  # an episode ends where both coordinates are closer to the goal than this


class Navigation(Batched):
    """Points in the plane that start at the origin and move by ``0.1 * action``.

    The position is the observation. The reward is minus the distance to the goal after the move. The episode
    terminates within 0.01 of the goal, in each coordinate.

    Deviation: the paper's text has the squared distance; the authors' code, and the returns that they
    released, have the distance, and "within 0.01" is a square there.

    Args:
        task: the set of goals.
        goals: ``[num_envs, 2]``.
        horizon: steps after which an episode is truncated.
        show_goal: append the goal to the observation.
        threads: unused; a step is a few array operations.
    """

    fps = 10

    def __init__(
        self,
        task: Square,
        goals: ndarray,
        *,
        horizon: int = 100,
        show_goal: bool = False,
        threads: int | None = None,
    ) -> None:
        moves = np.full(max(1, int(horizon)), STEP)
        farthest = np.cumsum(moves)[-1]  # rounded as the moves are, step by step
        bound = max(farthest, task.half_side)
        super().__init__(
            task, goals, horizon=horizon, show_goal=show_goal, observation=2, action=2, bound=bound
        )
        self._path = np.zeros((self.num_envs, horizon + 1, 2))  # positions, for the picture

    def _start(self, rows: ndarray, rngs: list[Generator]) -> ndarray:
        self._path[rows, 0] = 0.0
        return self._path[rows, 0]

    def _advance(self, rows: ndarray, actions: ndarray) -> tuple[ndarray, ndarray, ndarray]:
        time = self._elapsed[rows]
        position = self._path[rows, time] + STEP * actions
        self._path[rows, time + 1] = position
        away = position - self._goals[rows]
        return position, -np.sqrt(away[:, 0] ** 2 + away[:, 1] ** 2), (np.abs(away) < NEAR).all(-1)

    def frame(self, index: int = 0) -> ndarray:
        """The path so far, the point and the goal of environment ``index``, uint8 ``[height, width, 3]``."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        path = self._path[index, : self._elapsed[index] + 1]
        reach = max(1.0, 1.1 * float(np.abs(path).max()))
        figure = Figure(figsize=(3, 3), dpi=100, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_subplot(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        axes.plot(*path.T, color="tab:blue", marker=".")
        axes.plot(*path[-1], color="black", marker="o")
        axes.plot(*self._goals[index], color="tab:red", marker="*", markersize=12)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()
