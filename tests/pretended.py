"""A device that only pretends, in a process of its own, with tests/ and the package on its path.

PyTorch's fake tensors have a shape and a device, but no values. So on them a step fails that mixes its device
with the CPU, or that looks at a value, for which a GPU would have to be waited for and which no recording can
hold. What is looked at once, on the CPU, has been looked at before.

Prints a line for each network and method: its names, and what went wrong, or how far it came.
"""

import functools
import itertools

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import backend_registration

from conftest import small_problem
from mamlkit import methods, tasks
from mamlkit.engine import convolutions, meta_batch
from mamlkit.experiments import paper
from mamlkit.experiments.rows import Row
from mamlkit.maml import Task
from mamlkit.rl import maml_rl, policy
from mamlkit.rl.sampling import Steps
from mamlkit.runs import supervised
from mamlkit.tasks.bank import ClassBank
from mamlkit.tasks.images import ImageTasks

KINDS = ("mlp", "conv-stride", "conv-max")
UNTRAINED = "nearest neighbour on pixels"
FEW = ("maml", "maml, learned rates", "prototypical networks")  # with all forms of convolutions


class Module(backend_registration._DummyBackendModule):
    """What PyTorch asks of a device's module; it has no autocast."""

    def get_amp_supported_dtype(self):
        return []


def pretend():
    """Make the device known, for the rest of this process."""
    backend_registration._setup_privateuseone_for_python_backend("pretended", backend_module=Module())


def problem(kind, name):
    """A method, its parameters and a meta-batch; None if it is not for such tasks."""
    learner, params, tasks = small_problem(kind, dtype=torch.float32)
    try:
        method = methods.METHODS[name](learner)
        return checked(method, {**method.init(torch.Generator().manual_seed(0)), **params}, tasks)
    except Exception:  # for other losses, networks or tasks
        return None


def of_row(name):
    """The same of the first experiment that has a method, on a stand-in's images."""
    rows = [row for row in paper.ROWS.values() if isinstance(row, Row) and row.method == name]
    row = next(row for row in rows if row.family.startswith(("omniglot", "glyphs"))).at("quick")
    in_time = row.family.endswith("sequences")
    sizes = {"ways": row.ways, "shots": row.shots, "queries": row.queries}
    family = tasks.make("glyphs, sequences" if in_time else "glyphs", "train", **sizes)
    method = supervised.method(row)
    params = method.init(torch.Generator().manual_seed(0))
    return checked(method, params, family.sample(torch.Generator().manual_seed(0), 2))


def checked(method, params, batch):
    """After what is looked at once; as it is at the start of a training."""
    method = method.at(0.0)
    meta_batch.meta_gradient(method, params, batch)
    meta_batch.predictions(method, params, batch)
    return method, params, batch


def there(tensor):
    """A tensor of the same kind on the device; it has no values."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="pretended")


def is_there(*tensors):
    return all(tensor.device.type == "pretended" for tensor in tensors)


def step(method, params, batch):
    """What a recorded step does after the gather, and a test."""
    params = {name: there(value) for name, value in params.items()}
    batch = Task(*(tuple(map(there, pair)) for pair in batch))
    gradient, losses = meta_batch.meta_gradient(method, params, batch)
    adam = torch.optim.Adam(list(params.values()), lr=1e-3, capturable=True)
    for name, value in params.items():
        value.grad = gradient[name].clamp(-1, 1)
    adam.step()
    outputs = meta_batch.predictions(method, params, batch)
    return is_there(losses, outputs, *gradient.values())


def gathered():
    """A meta-batch of images from a bank on the device."""
    bank = ClassBank(there(torch.empty(6, 4, 1, 8, 8, dtype=torch.uint8)), tuple("abcdef"))
    family = ImageTasks(bank, ways=2, shots=2, queries=2, rotations=True)
    whole = lambda *shape: there(torch.empty(shape, dtype=torch.int64))
    batch = family.gather(whole(3, 2), whole(3, 2, 4), whole(3, 2))
    return is_there(*batch.support, *batch.query)


def of_policies(kind, curvature, adapted):
    """What a policy's update asks for again and again; of the answers it looks at numbers."""
    network = policy.gaussian_mlp(3, 2, (5, 4), context=2 * (kind == "context"))
    params = {name: there(value) for name, value in network.init(torch.Generator().manual_seed(0)).items()}
    steps = Steps(*(there(torch.empty(3, 6, *more)) for more in ((3,), (2,), (), ())))
    batch = maml_rl.MetaBatch(network, params, steps if adapted else None, steps, 0.1, curvature)
    theta, gradient = batch.vector(params), batch.gradient()
    judged = batch._mean(lambda part: part.judge(batch.unflatten(theta)))
    return is_there(theta, gradient, batch.fisher(gradient), judged)


def looked_at():
    """What must fail, or nothing is tested: a value is asked for."""
    return bool(there(torch.empty(2)).sum() > 0)


def mixed():
    """What must fail, too: tensors of two devices."""
    return there(torch.empty(2)) + torch.ones(2)


def tell(words, call):
    try:
        with FakeTensorMode():
            said = "stays there" if call() else "came back"
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    print(f"{words}: {said}", flush=True)


def main():
    pretend()  # before the first derivative, for which PyTorch counts its devices
    tell("looked at", looked_at)
    tell("mixed", mixed)
    tell("gathered", gathered)
    for case in itertools.product(("plain", "context"), maml_rl.CURVATURES, (True, False)):
        tell("policy, {}, {}, adapted {}".format(*case), functools.partial(of_policies, *case))
    found = {(kind, name): problem(kind, name) for kind in KINDS for name in methods.METHODS}
    found = {names: each for names, each in found.items() if each}
    of_kinds = {name for _, name in found}
    missing = [name for name in methods.METHODS if name not in of_kinds | {UNTRAINED}]
    found |= {("of an experiment", name): of_row(name) for name in missing}
    for form in convolutions.FORMS:
        convolutions.use(form)
        for (kind, name), (method, params, batch) in found.items():
            if form != convolutions.DEFAULT and (name not in FEW or not kind.startswith("conv")):
                continue

            tell(f"{form}, {kind}, {name}", functools.partial(step, method, params, batch))


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
