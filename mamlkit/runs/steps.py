"""Trainings that make one outer update at a time."""

__all__ = ["OneByOne"]


class OneByOne:
    """A :class:`mamlkit.runs.trainings.Training` by single steps."""

    def step(self, iteration: int) -> None:
        """One outer update, after so many; ``FloatingPointError`` if there is none to take."""
        raise NotImplementedError

    def advance(self, iteration: int, last: int) -> int:
        """One step, whatever the last iteration is that may be done."""
        self.step(iteration)
        return iteration + 1
