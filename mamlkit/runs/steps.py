"""Trainings that make one outer update at a time."""

__all__ = ["OneByOne"]

from torch import Tensor

from mamlkit.maml import Params


class OneByOne:
    """A :class:`mamlkit.runs.trainings.Training` by single steps; what it may leave as it is stands here."""

    params: Params
    window: list[Tensor]

    def step(self, iteration: int) -> None:
        """One outer update, after so many; ``FloatingPointError`` if there is none to take."""
        raise NotImplementedError

    def advance(self, iteration: int, last: int) -> int:
        """One step, whatever the last iteration is that may be done."""
        self.step(iteration)
        return iteration + 1

    def check(self, iteration: int) -> None:
        """Nothing in the window needs a look: parameters that are not finite are found by the loop."""

    def result(self) -> Params:
        """Theta."""
        return self.params

    def close(self) -> None:
        """Nothing was started."""
