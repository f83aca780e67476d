"""Sinusoid regression: y = A sin(omega x - phi); in the paper, section 5.1, omega is 1."""

__all__ = ["Sinusoid", "task_blind_mse"]

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from mamlkit.maml import Task
from mamlkit.tasks.checks import at_least, drawn_with, interval


@dataclass(frozen=True)
class Sinusoid:
    """The family of sine waves, each task an amplitude, a phase and a frequency; points are noise-free.

    Args:
        shots: K, support points of a task.
        queries: query points of a task.
        amplitude: range of A, uniform.
        phase: range of phi in radians, uniform. [0, pi] in the paper; the slides say [0, 2 pi].
        x: range of the inputs, uniform.
        frequency: range of omega in radians per unit of x, uniform. It is 1 in the paper; Li et al. (2017)
            draw it.
        show_task: append A and phi to every input, as the oracle sees them, and omega if it is drawn.
        device: where the points are put (they are drawn on the CPU, so every device sees the same).

    Raises:
        ValueError: If shots or queries are not whole numbers of at least 1, or a range is none.
    """

    shots: int = 10
    queries: int = 10
    amplitude: tuple[float, float] = (0.1, 5.0)
    phase: tuple[float, float] = (0.0, math.pi)
    x: tuple[float, float] = (-5.0, 5.0)
    frequency: tuple[float, float] = (1.0, 1.0)
    show_task: bool = False
    device: str | torch.device = "cpu"

    def __post_init__(self) -> None:
        at_least(1, shots=self.shots, queries=self.queries)
        interval(amplitude=self.amplitude, phase=self.phase, x=self.x, frequency=self.frequency)

    @property
    def inputs(self) -> int:
        """Features of a point: x; for the oracle (x, A, phi), or (x, A, phi, omega)."""
        return 1 + self.show_task * (2 + self._draws_frequency)

    @property
    def _draws_frequency(self) -> bool:
        low, high = self.frequency
        return low < high

    def sample(self, generator: Generator, tasks: int) -> Task:
        """A meta-batch: inputs ``[tasks, points, inputs]``, targets ``[tasks, points, 1]``.

        Raises:
            ValueError: If ``tasks`` is not a whole number of at least 1, or the generator is none.
        """
        at_least(1, tasks=tasks)
        drawn_with(generator)
        uniform = lambda bounds, *shape: (
            bounds[0] + (bounds[1] - bounds[0]) * torch.rand(*shape, generator=generator)
        )
        amplitude = uniform(self.amplitude, tasks, 1, 1)
        phase = uniform(self.phase, tasks, 1, 1)
        if self._draws_frequency:
            frequency = uniform(self.frequency, tasks, 1, 1)
        else:  # nothing is drawn, so that the paper's tasks do not change
            frequency = torch.full((tasks, 1, 1), self.frequency[0])
        x = uniform(self.x, tasks, self.shots + self.queries, 1)
        return self.examples(x, amplitude, phase, frequency)

    def examples(self, x: Tensor, amplitude: Tensor, phase: Tensor, frequency: Tensor | None = None) -> Task:
        """The task at given points: the first ``shots`` of ``x`` are the support, the rest the query.

        Args:
            x: inputs ``[tasks, points, 1]``.
            amplitude: A, ``[tasks, 1, 1]``.
            phase: phi in radians, ``[tasks, 1, 1]``.
            frequency: omega, ``[tasks, 1, 1]``; 1 if None.

        Raises:
            ValueError: If the shapes are others, or no point is left for the query.
        """
        if x.ndim != 3 or x.shape[-1] != 1 or x.shape[1] <= self.shots:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; it must be [tasks, more than {self.shots} points, 1]"
            )
        frequency = torch.ones(len(x), 1, 1) if frequency is None else frequency
        for name, value in (("amplitude", amplitude), ("phase", phase), ("frequency", frequency)):
            if value.shape != (len(x), 1, 1):
                raise ValueError(
                    f"{name} has shape {tuple(value.shape)}; for this x it must be {(len(x), 1, 1)}"
                )
        y = amplitude * torch.sin(frequency * x - phase)
        if self.show_task:
            shown = (amplitude, phase, frequency)[: self.inputs - 1]
            x = torch.cat([x, *(value.expand_as(x) for value in shown)], -1)
        x, y = x.to(self.device), y.to(self.device)
        k = self.shots
        return Task(support=(x[:, :k], y[:, :k]), query=(x[:, k:], y[:, k:]))


def task_blind_mse(
    amplitude: tuple[float, float] = (0.1, 5.0), phase: tuple[float, float] = (0.0, math.pi)
) -> float:
    """The least mean squared error of any predictor that does not know the task, over x in [-5, 5].

    The frequency is 1. The best such predictor is E[A sin(x - phi)] = E[A] (s sin x - c cos x) with
    s = E[cos phi] and c = E[sin phi]; what remains is E[A^2] / 2 less (in expectation over x) that
    predictor's square.

    Raises:
        ValueError: If the range of phases has no width, or one of the two is no range.

    >>> round(task_blind_mse(), 3), round(task_blind_mse(phase=(0.0, 2 * math.pi)), 3)
    (3.006, 4.252)
    """
    interval(amplitude=amplitude, phase=phase)
    (a0, a1), (p0, p1) = amplitude, phase
    if p0 == p1:
        raise ValueError(f"phase={phase}, but a range of no width shows the phase; give two different ends")
    mean_amplitude = (a0 + a1) / 2
    mean_square = (a0**2 + a0 * a1 + a1**2) / 3
    s = (math.sin(p1) - math.sin(p0)) / (p1 - p0)
    c = (math.cos(p0) - math.cos(p1)) / (p1 - p0)
    # Over x in [-5, 5] the odd product of sine and cosine vanishes; their squares average to:
    cos2 = 0.5 + math.sin(10) / 20
    sin2 = 1 - cos2
    # E[A^2 sin^2(x - phi)], with phi's second harmonic, less the square of the mean.
    second = (math.sin(2 * p1) - math.sin(2 * p0)) / (2 * (p1 - p0))
    total = mean_square * 0.5 * (1 - second * (cos2 - sin2))
    return total - mean_amplitude**2 * (s**2 * sin2 + c**2 * cos2)
