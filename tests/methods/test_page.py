"""The how-to page's examples: run in a copy of the package, and held against slow twins."""

import ast
import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import made_clone
from conftest import relative_error, small_problem
from mamlkit import maml, methods, places, tasks
from mamlkit.engine import meta_batch
from mamlkit.experiments import paper
from mamlkit.runs import seeds, supervised

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "book" / "how-to.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```\{code-block\} python\n:caption: ([^\n]+)\n\n(.*?)```", PAGE, re.S)
BLOCKS = [(caption.replace("`", ""), text) for caption, text in BLOCKS]
RUNS = ["square-anil", "sinusoid-reptile", "sinusoid-smooth", "glyphs-prototypes", "pictures-5way-1shot"]
# what stands in the page's commands for words in capitals
NAMES = {"EXPERIMENT": RUNS, "METHOD": ["anil", "reptile", "prototypes"], "FAMILY": ["square", "pictures"]}
NAMES |= {"ENVIRONMENT": ["half-cheetah-slow", "cart"]}
(GOALS,) = re.findall(r"```python\n(import numpy as np\n.*?)```", PAGE, re.S)
NETWORK = ("mlp", {"inputs": 1, "hidden": (20, 20), "outputs": 1, "std": 0.5})
ROW = dataclasses.replace(paper.get("sinusoid-maml"), iterations=2, meta_batch_size=4, network=NETWORK)


def write(package: Path) -> None:
    """Add to a package what the page adds: whole files, and lines of tables with their imports.

    What is there already, in the clone of who has followed the page to the letter, is not added twice.
    """
    for caption, text in BLOCKS:
        table, _, name = caption.rpartition(" in ")
        path = package.parent / name
        if not table:
            path.write_text(text, encoding="utf-8")
            continue
        if re.findall('"[^"]+"', text)[0] in path.read_text(encoding="utf-8"):
            continue
        lines = text.strip().splitlines(keepends=True)
        imports = [line for line in lines if line.startswith("from ")]
        entry = "".join(line for line in lines if line not in imports)
        before, opening, after = re.split(
            rf"^({table}\b.* = [\[{{(]\n)", path.read_text(encoding="utf-8"), maxsplit=1, flags=re.M
        )
        first = before.index("from mamlkit") if imports else 0
        path.write_text(before[:first] + "".join(imports) + before[first:] + opening + entry + after, "utf-8")


def draw_pictures(folder):
    """Five classes of each split, each a colour, in pictures of several sizes and unequal numbers."""
    noise = np.random.RandomState(0)
    for split in ("train", "val", "test"):
        for number, colour in enumerate(
            ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255))
        ):
            (folder / split / f"class{number}").mkdir(parents=True)
            for i in range(16 + number):
                pixels = np.uint8(0.5 * np.array(colour) + noise.randint(0, 128, (30 + i, 40, 3)))
                Image.fromarray(pixels).save(folder / split / f"class{number}" / f"{i}.png")


def test_the_page_says_what_is_tested():
    captions = [caption for caption, _ in BLOCKS]
    assert len(captions) == PAGE.count("{code-block} python") == 18
    assert all(f'"{name}"' in PAGE or f"`{name}`" in PAGE for name in RUNS)


def test_what_the_page_does_from_python_works():
    (words,) = re.findall(r"## From Python.*?```python\n(.*?)```", PAGE, re.S)
    found = {}
    exec(words, found)
    theta, gradient = found["theta"], found["gradient"]
    assert found["outputs"].shape == (2, 25, 10, 1) and found["losses"].shape == (25,)
    assert {name: v.shape for name, v in gradient.items()} == {name: v.shape for name, v in theta.items()}
    assert not torch.equal(found["phi"]["bias2"], theta["bias2"])


def test_the_page_says_its_types_as_make_check_wants_them():
    functions = [
        node
        for caption, text in BLOCKS
        if " in " not in caption
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef)
    ]
    assert functions
    for node in functions:
        untyped = [a.arg for a in node.args.args if a.annotation is None and a.arg != "self"]
        assert node.returns is not None and untyped == [], node.name


def test_what_the_page_adds_trains_and_passes_the_contract_tests(tmp_path):
    made_clone.whole_package(tmp_path)
    write(tmp_path / "mamlkit")
    draw_pictures(tmp_path / "own" / "pictures")
    settings = {"PYTHONPATH": str(tmp_path), "MAMLKIT_DATA": "own", "MAMLKIT_CACHE": str(places.cache_dir())}
    in_the_copy = {"cwd": tmp_path, "env": os.environ | settings, "capture_output": True, "text": True}
    (tmp_path / "data").mkdir()
    for name in ("published.csv", "test_goals.csv"):
        shutil.copy(ROOT / "data" / name, tmp_path / "data")
    code = f"""
from contextlib import redirect_stdout
from mamlkit.__main__ import main
from mamlkit.experiments import paper
from mamlkit.report import compare
from mamlkit.rl import envs
from mamlkit.runs import policies
for name in {RUNS}:
    assert main(["run", name, "--scale", "quick", "--until", "30", "--threads", "1"]) == 0
envs.make("half-cheetah-slow", goals=[0.3]).close()
with open("data/test_goals.csv", "a") as file, redirect_stdout(file):
    exec({GOALS!r})
assert policies.test_goals("half-cheetah-slow").shape == (40,)
assert paper.get("compare-glyphs-5way-1shot-anil").method == "anil"
assert compare.BASE.words == "MAML"
"""
    shown = subprocess.run([sys.executable, "-c", code], **in_the_copy)
    assert shown.returncode == 0, shown.stderr
    assert all((tmp_path / "runs" / f"{name}-quick" / "seed0" / "result.json").exists() for name in RUNS)
    curves = dict(line.split(": ") for line in shown.stdout.splitlines() if ": " in line)
    anil = [float(word) for word in curves["square-anil K=10 mse"].split()]
    assert len(anil) == 11 and anil[-1] < anil[0]  # adaptation helps
    assert float(curves["glyphs-prototypes Q=15 accuracy"]) > 40  # of five classes
    assert float(curves["pictures-5way-1shot Q=15 accuracy"].split()[-1]) > 90  # of five colours
    made_clone.tests(tmp_path)
    commands, passed = re.findall("python (-m pytest -k .*?)[`\n]", PAGE), set()
    assert len(commands) == 2
    for command in commands:
        for word, names in NAMES.items():
            command = command.replace(word, " or ".join(names))
        tested = subprocess.run([sys.executable, *shlex.split(command), "-v"], **in_the_copy)
        assert tested.returncode == 0, tested.stdout + tested.stderr
        passed |= set(re.findall(r"::(\S+) PASSED", tested.stdout))
    wanted = {f"test_every_row_gives_a_finite_meta_gradient[{name}-paper]" for name in RUNS}
    of_kinds = {"anil": ("mlp", "conv-stride"), "reptile": ("mlp",), "prototypes": ("conv-stride",)}
    wanted |= {
        f"test_every_method_gives_a_scalar_and_a_gradient[{kind}-{method}]"
        for method, kinds in of_kinds.items()
        for kind in kinds
    }
    wanted |= {"test_without_transduction_no_query_matters_to_another[prototypes]"}
    wanted |= {f"test_every_family_keeps_the_contract[{name}]" for name in NAMES["FAMILY"]}
    wanted |= {"test_every_network_keeps_the_contract[sinusoid-smooth]"}
    of_all = ("a_single_environment_is_a_batch_of_one", "two_threads_in_one_batch_are_refused_by_name")
    wanted |= {f"test_{each}[{name}]" for each in of_all for name in NAMES["ENVIRONMENT"]}
    wanted |= {"test_patterns_find_all_experiments_of_a_method"}
    assert wanted <= passed, wanted - passed


@pytest.fixture
def page(monkeypatch):
    """The methods of the page, in the table."""
    scope = {}
    for caption, text in BLOCKS:
        if caption.startswith("mamlkit/methods/"):
            exec(text, scope)
    for name in ("anil", "Reptile", "Prototypes"):
        monkeypatch.setitem(methods.METHODS, name.lower(), scope[name])


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("name", ["anil", "reptile"])
def test_the_methods_of_the_page_have_the_gradient_of_the_general_way(page, name, steps):
    learner = dataclasses.replace(supervised.build(ROW), inner_lr=0.05, inner_steps=steps)
    params = {k: value.double() for k, value in learner.model.init(seeds.generator(0, "init")).items()}
    generator = torch.Generator().manual_seed(0)
    points = lambda: torch.randn(6, 10, 1, generator=generator, dtype=torch.float64)
    six = maml.Task((points(), points()), (points(), points()))
    method = methods.METHODS[name](learner)
    gradient, losses = meta_batch.meta_gradient(method, params, six)
    wanted, wanted_losses = maml.meta_gradient(method.loss, params, six)
    assert all(relative_error({k: gradient[k]}, {k: wanted[k]}) < 1e-9 for k in params)
    assert torch.allclose(losses, wanted_losses, rtol=1e-9)


def test_anil_adapts_the_head_alone_in_training_and_in_tests(page):
    row = dataclasses.replace(ROW, method="anil")
    params = supervised.method(row).init(seeds.generator(0, "init"))
    test = row.evaluations[1]
    found, all_layers = (supervised.evaluate(r, params, test, n_tasks=600)["mse"] for r in (row, ROW))
    family = tasks.make("sinusoid", "test", shots=test.shots, queries=test.queries)
    batch = family.sample(seeds.generator(0, "evaluate test", 0), supervised.EVALUATION_CHUNK)
    learner = supervised.build(row, test)
    for i in range(3):
        support, (x, y) = (tuple(t[i] for t in pair) for pair in batch)
        fast = dict(params)
        for step in range(test.inner_steps + 1):
            wanted = ((learner.model.apply(fast, x) - y) ** 2).mean()
            assert np.isclose(found[i, step], float(wanted), rtol=1e-4)
            head = {name: fast[name].clone().requires_grad_() for name in ("weight2", "bias2")}
            gradient = torch.autograd.grad(learner.loss_fn({**fast, **head}, support), list(head.values()))
            fast |= {k: (w - test.inner_lr * g).detach() for (k, w), g in zip(head.items(), gradient)}
    assert np.array_equal(found[:, 0], all_layers[:, 0])
    assert np.abs(found - all_layers)[:, -1].mean() > 0.2  # to adapt all layers gives other numbers


def test_the_gradient_of_reptile_is_the_way_to_the_adapted_parameters(page):
    learner, params, batch = small_problem("mlp")
    gradient, _ = meta_batch.meta_gradient(methods.METHODS["reptile"](learner), params, batch)
    ends = [learner.adapt(params, tuple(t[i] for t in batch.support)) for i in range(3)]
    wanted = {name: sum(params[name] - end[name] for end in ends) / 3 for name in params}
    assert relative_error(gradient, wanted) < 1e-11


def test_a_query_of_prototypes_belongs_to_the_nearest_mean(page):
    learner, params, batch = small_problem("conv-stride")
    (outputs,) = meta_batch.predictions(methods.METHODS["prototypes"](learner), params, batch)
    for i in range(3):
        (images, labels), (queries, _) = (tuple(t[i] for t in pair) for pair in batch)
        embed = lambda x: learner.model.apply(params, x).detach().numpy()
        support, query = embed(images), embed(queries)
        for label in range(2):
            centre = support[labels.numpy() == label].mean(0)
            assert np.allclose(outputs[i, :, label], -((query - centre) ** 2).sum(1), rtol=1e-10)
