"""Recurrent networks as functions of the parameter dictionary: the points of an input are steps in time."""

__all__ = ["gru", "gru_states", "init_gru", "init_lstm", "lstm", "lstm_network", "mann"]

from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.autograd.function import once_differentiable

from mamlkit.maml import Params
from mamlkit.models.parts import Model, check_features, check_sizes, xavier_uniform

SMALL = 1e-8  # beside the squared norms in a cosine, for rows of the memory that are still empty


def init_lstm(name: str, inputs: int, units: int, generator: Generator) -> Params:
    """The parameters of a cell: Xavier weights, zero biases.

    Args:
        name: begins the names of the parameters.
        inputs: numbers that come in at each step.
        units: numbers that it keeps, and gives out.
        generator: of the weights.

    Returns:
        ``name_inputs [4 units, inputs]``, ``name_state [4 units, units]``, ``name_bias [4 units]``.
    """
    return _init_gates(name, inputs, units, 4, generator)


def _init_gates(name: str, inputs: int, units: int, gates: int, generator: Generator) -> Params:
    return {
        f"{name}_inputs": xavier_uniform((gates * units, inputs), generator),
        f"{name}_state": xavier_uniform((gates * units, units), generator),
        f"{name}_bias": torch.zeros(gates * units),
    }


def lstm(params: Params, name: str, inputs: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """One step of a long short-term memory: ``c' = f c + i g``, ``h' = o tanh(c')``.

    The gates i, f, g, o lie in this order along the rows of the parameters, as in PyTorch's own cell.

    Args:
        params: at least those of :func:`init_lstm`.
        name: of the cell.
        inputs: ``[..., inputs]``.
        state: output h and cell c of the step before, ``[..., units]`` each.

    Returns:
        The new output and cell.
    """
    hidden, cell = state
    gates = F.linear(inputs, params[f"{name}_inputs"], params[f"{name}_bias"])
    return _gated(gates + F.linear(hidden, params[f"{name}_state"]), cell)


def _gated(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    i, f, g, o = gates.chunk(4, -1)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell


def init_gru(name: str, inputs: int, units: int, generator: Generator) -> Params:
    """The parameters of a gated recurrent unit: Xavier weights, zero biases.

    Args:
        name, inputs, units, generator: as for :func:`init_lstm`.

    Returns:
        ``name_inputs [3 units, inputs]``, ``name_state [3 units, units]``, ``name_bias [3 units]``.
    """
    return _init_gates(name, inputs, units, 3, generator)


def gru(params: Params, name: str, inputs: Tensor, state: Tensor) -> Tensor:
    """One step of a gated recurrent unit: ``h' = (1 - z) tanh(n) + z h``.

    Source: Cho et al. 2014, in the form that PyTorch's own cell has: the reset gate r multiplies the product
    of the state, ``n = W x + b + r U h``. The rows of the parameters are those of r, z, n, in this order.

    Args:
        params: at least those of :func:`init_gru`.
        name: of the unit.
        inputs: ``[tasks, inputs]``.
        state: h of the step before, ``[tasks, units]``.

    Returns:
        The new state.
    """
    before = F.linear(inputs, params[f"{name}_inputs"], params[f"{name}_bias"])
    return _gated_unit(before, params[f"{name}_state"], state)[0]


def gru_states(params: Params, name: str, inputs: Tensor, state: Tensor) -> Tensor:
    """The states of a gated recurrent unit after each step of many sequences.

    Its derivative goes back through all steps, by hand, so that weights take one product for all of them.
    There is no second derivative.

    Args:
        params, name: as for :func:`gru`.
        inputs: ``[time, tasks, inputs]``.
        state: h before the first step, ``[tasks, units]``.

    Returns:
        ``[time, tasks, units]``.
    """
    before = F.linear(inputs, params[f"{name}_inputs"], params[f"{name}_bias"])
    return _States.apply(before, params[f"{name}_state"], state)


def _gated_unit(before: Tensor, weight: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The new state, both gates, tanh(n), and what r multiplies, from the products with the inputs."""
    both = 2 * state.shape[-1]
    gates = torch.addmm(before[:, :both], state, weight[:both].T).sigmoid_()
    reset, update = gates.chunk(2, -1)
    product = state @ weight[both:].T
    new = torch.addcmul(before[:, both:], reset, product).tanh_()
    return torch.lerp(new, state, update), gates, new, product


class _States(torch.autograd.Function):
    """All steps of the unit. On the way back what does not depend on later steps is had for all at once."""

    @staticmethod
    def forward(ctx: Any, before: Tensor, weight: Tensor, state: Tensor) -> Tensor:
        states, found = [state], []
        for now in before:
            after, *parts = _gated_unit(now, weight, states[-1])
            states.append(after)
            found.append(parts)
        kept = [torch.stack(parts) for parts in (states, *map(list, zip(*found, strict=True)))]
        ctx.save_for_backward(weight, *kept)
        return torch.stack(states[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outgoing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weight, states, gates, news, products = ctx.saved_tensors
        reset, update = gates.chunk(2, -1)
        of_new = (1 - update) * (1 - news.square())  # of n, by the new state
        of_reset, of_update = of_new * products * reset * (1 - reset), (states[:-1] - news) * update
        slopes = torch.stack([of_reset, of_update * (1 - update), of_new * reset], 2)
        carried, found = torch.empty_like(outgoing), torch.empty_like(slopes)
        now = torch.zeros_like(states[0])
        for t in reversed(range(len(outgoing))):
            now = torch.add(now, outgoing[t], out=carried[t])
            torch.mul(now[:, None], slopes[t], out=found[t])
            now = torch.addmm(now * update[t], found[t].flatten(1), weight)
        of_product = found.flatten(2)
        of_weight = of_product.flatten(0, 1).T @ states[:-1].flatten(0, 1)
        found[:, :, 2] = carried * of_new  # the inputs of n are not multiplied by r
        return of_product, of_weight, now


def lstm_network(inputs: int, units: int, outputs: int) -> Model:
    """One LSTM over the points in their order, and a linear head on its output at each.

    Args:
        inputs: features of a point.
        units: of the cell.
        outputs: of the head.

    Raises:
        ValueError: a size that is no whole number, at least 1.
    """
    check_sizes(inputs=inputs, units=units, outputs=outputs)

    def init(generator: Generator) -> Params:
        return init_lstm("cell", inputs, units, generator) | _init_linear("head", units, outputs, generator)

    def apply(params: Params, x: Tensor) -> Tensor:
        check_features(x.shape[-1], inputs)
        hidden = cell = x.new_zeros(units)
        found = []
        for gates in F.linear(x, params["cell_inputs"], params["cell_bias"]):  # of all steps at once
            hidden, cell = _gated(gates + F.linear(hidden, params["cell_state"]), cell)
            found.append(hidden)
        return _linear(params, "head", torch.stack(found))

    return Model(init, apply)


def mann(
    inputs: int,
    units: int,
    outputs: int,
    *,
    rows: int = 128,
    width: int = 40,
    reads: int = 4,
    decay: float = 0.99,
) -> Model:
    """An LSTM with a memory that it writes to where it has just read, or where nothing was used for long.

    Source: Santoro et al. 2016, "least recently used access". At each step, with h the LSTM's output on the
    input and on what was read before, and for each of the reads a key k = tanh(W h) and a gate a::

        w_write = sigmoid(a) w_read' + (1 - sigmoid(a)) w_least'      (': of the step before)
        M       = M' with its least used row set to zero, + w_write k
        w_read  = softmax over the rows of cos(k, M)                  r = w_read M
        usage   = decay usage' + w_read + w_write                     summed over the reads

    ``w_least`` of the first, second, ... read is 1 at the least, second least, ... used row. No gradient goes
    through the usage. Outputs are linear in (h, r). The memory begins empty with every sequence, ``w_read``
    and usage at its first row.

    Deviation: the paper's text leaves open how reads share the least used rows, and what a key is made by;
    here we follow T. Deleu's code (``tristandeleu/ntm-one-shot``), but write the keys, as printed.

    Args:
        inputs: features of a point.
        units: of the LSTM.
        outputs: of the head.
        rows, width: of the memory.
        reads: at each step.
        decay: of the usage.

    Raises:
        ValueError: a size that is no whole number, at least 1.
    """
    check_sizes(inputs=inputs, units=units, outputs=outputs, rows=rows, width=width, reads=reads)

    def init(generator: Generator) -> Params:
        params = init_lstm("cell", inputs, units, generator)
        params["cell_read"] = xavier_uniform((4 * units, reads * width), generator)
        for name, columns, size in (
            ("key", units, reads * width),
            ("gate", units, reads),
            ("head", units + reads * width, outputs),
        ):
            params |= _init_linear(name, columns, size, generator)
        return params

    def apply(params: Params, x: Tensor) -> Tensor:
        check_features(x.shape[-1], inputs)
        hidden = cell = x.new_zeros(units)
        memory, read = x.new_zeros(rows, width), x.new_zeros(reads * width)
        usage = F.one_hot(torch.zeros((), dtype=torch.long, device=x.device), rows).to(x)
        reading, found = usage.expand(reads, rows), []
        for gates in F.linear(x, params["cell_inputs"], params["cell_bias"]):  # of all steps at once
            gates = gates + F.linear(hidden, params["cell_state"]) + F.linear(read, params["cell_read"])
            hidden, cell = _gated(gates, cell)
            keys = _linear(params, "key", hidden).tanh().view(reads, width)
            again = _linear(params, "gate", hidden).sigmoid()[:, None]
            least = F.one_hot(usage.argsort(stable=True)[:reads], rows).to(x)
            writing = again * reading + (1 - again) * least
            memory = memory * (1 - least[0])[:, None] + writing.T @ keys
            reading = _cosines(keys, memory).softmax(-1)
            read = (reading @ memory).flatten()
            usage = decay * usage + (reading + writing).detach().sum(0)
            found.append(torch.cat([hidden, read]))
        return _linear(params, "head", torch.stack(found))

    return Model(init, apply)


def _cosines(keys: Tensor, memory: Tensor) -> Tensor:
    """The cosine of each key with each row, ``[keys, rows]``; 0 with an empty one, and smooth there."""
    squares = (keys**2).sum(-1)[:, None] * (memory**2).sum(-1)
    return keys @ memory.T * (squares + SMALL).rsqrt()


def _init_linear(name: str, inputs: int, outputs: int, generator: Generator) -> Params:
    return {name: xavier_uniform((outputs, inputs), generator), f"{name}_bias": torch.zeros(outputs)}


def _linear(params: Params, name: str, inputs: Tensor) -> Tensor:
    return F.linear(inputs, params[name], params[f"{name}_bias"])
