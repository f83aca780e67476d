"""Parameters and training state as safetensors files, replaced whole or not at all."""

__all__ = ["finite", "load_params", "load_state", "save_params", "save_state"]

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mamlkit.runs import replacing

Params = dict[str, Tensor]


def _save(tensors: Params, path: Path, metadata: dict[str, str] | None = None) -> None:
    with replacing(path) as temporary:
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, temporary, metadata)


def _load(path: Path) -> tuple[Params, dict[str, str]]:
    if not path.exists():
        raise FileNotFoundError(f"there is no checkpoint {path}; train it first: python -m mamlkit run NAME")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}); delete it and train again") from error


def save_params(params: Params, path: Path) -> None:
    """Write parameters; the file appears whole or not at all."""
    _save(params, path)


def load_params(path: Path, like: Params | None = None) -> Params:
    """Read parameters.

    Args:
        path: a file of :func:`save_params`.
        like: parameters whose names and shapes the file must have.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or its names or shapes are not those of ``like``.
    """
    params, _ = _load(Path(path))
    if like is not None:
        came, wanted = ({name: tuple(t.shape) for name, t in p.items()} for p in (params, like))
        if came != wanted:
            raise ValueError(f"{path} holds {came}, but the network has {wanted}; it belongs to another row")
    return params


def _named(params: Params, optimiser: torch.optim.Optimizer | None) -> Params:
    """Parameters and the optimiser's moments, if there is one, by the names that a state has for them."""
    tensors = {f"params/{name}": t for name, t in params.items()}
    names = list(params)
    for index, moments in (optimiser.state_dict()["state"] if optimiser else {}).items():
        tensors.update({f"optimiser/{names[index]}/{key}": value for key, value in moments.items()})
    return tensors


def finite(params: Params, optimiser: torch.optim.Optimizer | None) -> bool:
    """Whether training can go on from these: parameters and moments of which none is infinite or NaN."""
    return all(bool(tensor.isfinite().all()) for tensor in _named(params, optimiser).values())


def save_state(
    path: Path, iteration: int, params: Params, optimiser: torch.optim.Optimizer | None, window: list[Tensor]
) -> None:
    """Write what training needs to go on exactly.

    That is the iteration, the parameters, the optimiser's moments if there is one, and the losses not yet logged (``window``).
    """
    tensors = _named(params, optimiser)
    if window:
        tensors["window"] = torch.stack(window)
    _save(tensors, path, {"iteration": str(iteration)})


def load_state(path: Path, params: Params, optimiser: torch.optim.Optimizer | None) -> tuple[int, list[Tensor]]:
    """Fill ``params`` and ``optimiser`` from a file of :func:`save_state`; returns the iteration and the window.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or belongs to another network.
    """
    tensors, metadata = _load(Path(path))
    wanted = {f"params/{name}": tuple(t.shape) for name, t in params.items()}
    came = {name: tuple(t.shape) for name, t in tensors.items() if name.startswith("params/")}
    if came != wanted or "iteration" not in metadata:
        raise ValueError(f"{path} is not a training state of this row; delete the run folder or choose another")
    iteration = int(metadata["iteration"])
    if optimiser:
        state = optimiser.state_dict()
        for index, name in enumerate(params):
            prefix = f"optimiser/{name}/"
            moments = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
            if iteration and not moments:
                raise ValueError(f"{path} lacks the optimiser's moments of {name}; it is not a training state of this row")
            if moments:
                state["state"][index] = moments
        optimiser.load_state_dict(state)
    with torch.no_grad():
        for name, value in params.items():
            value.copy_(tensors[f"params/{name}"])
    device = next(iter(params.values())).device
    return iteration, [loss.to(device) for loss in tensors.get("window", [])]
