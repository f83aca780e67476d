"""The loop: exact resume, interruption, refusal of nonsense, and an evaluation that leaks nothing."""

import dataclasses
import math
import os
import signal
import time
import warnings

import numpy as np
import pytest
import torch

from made_runs import opened, same
from mamlkit import __main__, maml, methods, tasks
from mamlkit.engine import convolutions, meta_batch
from mamlkit.experiments import paper
from mamlkit.runs import devices, folders, seeds, supervised, supervised_training, terminal, train, trainings

pytestmark = pytest.mark.usefixtures("one_by_one")
GRADIENT = meta_batch.meta_gradient

ROW = dataclasses.replace(paper.get("sinusoid-maml"), iterations=10, meta_batch_size=4)
GLYPHS = dataclasses.replace(
    paper.get("glyphs-5way-1shot").at("quick"),
    iterations=4,
    meta_batch_size=2,
    network=("conv4", {"ways": 5, "filters": 4}),
)
FALLING = dataclasses.replace(ROW, outer="descent, falling", outer_lr=0.5, iterations=4)


@pytest.mark.parametrize("row", [ROW, GLYPHS, FALLING], ids=["sinusoid", "glyphs", "falling"])
def test_two_halves_equal_the_whole_bit_for_bit(row, tmp_path, monkeypatch):
    monkeypatch.setattr(supervised_training, "LOG_EVERY", 3)  # the halves end inside a window of the log
    half = row.iterations // 2
    whole = train.fit(row, seed=1, folder=opened(row, 1, scale="quick", base=tmp_path / "whole"))
    folder = opened(row, 1, scale="quick", base=tmp_path / "halves")
    first = train.fit(row, seed=1, folder=folder, until=half)
    assert first.iteration == half and not same(first.params, whole.params)
    second = train.fit(row, seed=1, folder=folder)
    assert second.iteration == row.iterations and same(second.params, whole.params)
    assert np.array_equal(
        second.log.drop(columns="seconds"), whole.log.drop(columns="seconds"), equal_nan=True
    )


def test_training_is_adam_on_the_meta_gradient():
    learner = supervised.build(ROW)
    params = learner.model.init(seeds.generator(3, "init"))
    family = tasks.make(ROW.family, "train", shots=10, queries=10)
    leaves = {k: v.clone().requires_grad_() for k, v in params.items()}
    optimiser = torch.optim.Adam(leaves.values(), lr=0.001, betas=(0.9, 0.999), eps=1e-8)
    for iteration in range(3):
        batch = family.sample(seeds.generator(3, "train", iteration), 4)
        gradient, _ = meta_batch.meta_gradient(
            methods.maml(learner), {k: v.detach() for k, v in leaves.items()}, batch
        )
        for name, value in leaves.items():
            value.grad = gradient[name]
        optimiser.step()
    found = train.fit(ROW, seed=3, until=3).params
    for name, value in leaves.items():  # training takes the fused step, which rounds in another order
        torch.testing.assert_close(found[name], value.detach(), rtol=1e-5, atol=1e-7)


def test_a_falling_descent_goes_along_the_meta_gradient_by_less_and_less():
    learner = supervised.build(ROW)
    params = learner.model.init(seeds.generator(3, "init"))
    family = tasks.make(ROW.family, "train", shots=10, queries=10)
    for iteration, rate in enumerate((0.5, 0.375, 0.25, 0.125)):
        batch = family.sample(seeds.generator(3, "train", iteration), ROW.meta_batch_size)
        gradient, _ = meta_batch.meta_gradient(methods.maml(learner), params, batch)
        params = {name: value - rate * gradient[name] for name, value in params.items()}
    found = train.fit(FALLING, seed=3).params
    for name, value in params.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)


def test_the_first_step_of_reptile_at_rate_one_goes_to_the_mean_of_what_its_tasks_find():
    row = dataclasses.replace(
        FALLING, method="reptile, inner adam", outer_lr=1.0, iterations=1, inner_steps=3
    )
    made = supervised.method(row)
    begun = made.init(seeds.generator(2, "init"))
    family = tasks.make(row.family, "train", shots=row.shots, queries=row.queries)
    batch = family.sample(seeds.generator(2, "train", 0), row.meta_batch_size)
    tasks_of = [maml.Task(*(tuple(t[i] for t in part) for part in batch)) for i in range(len(batch.query[0]))]
    ends = [made._path(begun, task)[-1] for task in tasks_of]
    found = train.fit(row, seed=2).params
    for name in begun:
        torch.testing.assert_close(found[name], torch.stack([end[name] for end in ends]).mean(0))


def test_what_is_not_adam_is_not_recorded_and_unknown_outer_updates_are_refused():
    with pytest.raises(ValueError, match="with Adam in one process can be recorded"):
        train.fit(FALLING, recorded=True)
    with pytest.raises(
        ValueError, match="outer='sgd', but it must be one of 'adam', 'adam, cosine', 'descent"
    ):
        dataclasses.replace(ROW, outer="sgd")


def test_the_seed_decides_the_run():
    one, again, other = (train.fit(ROW, seed=seed).params for seed in (0, 0, 1))
    assert same(one, again) and not same(one, other)


def test_training_lowers_the_meta_loss():
    log = train.fit(dataclasses.replace(ROW, iterations=300, meta_batch_size=25), validate=False).log
    assert list(log.iteration) == [100, 200, 300]
    # 2,500 tasks a line: a standard error of about 0.08; untrained, the loss stays at 4.25.
    assert log.meta_loss.iloc[-1] < log.meta_loss.iloc[0] - 0.3


def test_a_training_is_followed_on_the_same_validation_tasks_each_time(monkeypatch):
    """Never on those of the test: what is chosen by looking at the log has not seen them."""
    for name, value in (("LOG_EVERY", 2), ("VALIDATE_EVERY", 2), ("VALIDATION_TASKS", 5)):
        monkeypatch.setattr(supervised_training, name, value)
    row = dataclasses.replace(ROW, outer_lr=0.05)
    test, log = row.evaluations[0], train.fit(row, seed=3, until=4).log
    wanted = []
    for until in (2, 4):
        params = train.fit(row, seed=3, until=until, validate=False).params
        errors = supervised.evaluate(row, params, test, split="val", n_tasks=5, seed=3)["mse"]
        wanted.append(errors.mean(0)[test.headline_step])
    assert log.validation.tolist() == pytest.approx(wanted, rel=1e-5)
    of_test = supervised.evaluate(row, params, test, n_tasks=5, seed=3)["mse"].mean(0)[test.headline_step]
    assert abs(of_test / wanted[1] - 1) > 0.01 < abs(wanted[0] / wanted[1] - 1)


def test_a_loss_for_each_shot_counts_the_shots_of_the_test_and_not_of_the_training():
    """Of N classes it is N times the mean, whatever the shots: so alpha means the same in both."""
    test = dataclasses.replace(GLYPHS.evaluations[0], shots=3, inner_lr=0.2, inner_steps=7)
    made = supervised.build(GLYPHS, test)
    assert (made.inner_lr, made.inner_steps, made.shots) == (0.2, 7, 3) and GLYPHS.shots == 1
    for learner, shots in ((made, 3), (supervised.build(GLYPHS), 1)):
        labels = torch.arange(5).repeat(shots)
        loss = float(learner.loss_of(torch.zeros(len(labels), 5), labels))
        assert loss == pytest.approx(5 * math.log(5))


def test_the_clip_bounds_each_component_of_the_meta_gradient(monkeypatch):
    seen = []

    class Watched(torch.optim.SGD):
        def __init__(self, params, lr, fused):
            super().__init__(params, lr=0.0)

        def step(self):
            seen.append(torch.cat([p.grad.flatten() for group in self.param_groups for p in group["params"]]))

    monkeypatch.setattr(torch.optim, "Adam", Watched)
    train.fit(ROW, until=1, validate=False)
    bound = float(seen[0].abs().median())
    train.fit(dataclasses.replace(ROW, clip=bound), until=1, validate=False)
    assert (seen[0] > bound).any() and (seen[0] < -bound).any()
    assert torch.equal(seen[1], seen[0].clamp(-bound, bound)) and not torch.equal(seen[1], seen[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_a_run_that_can_go_on(number, tmp_path, monkeypatch):
    row = dataclasses.replace(ROW, iterations=3000)
    folder = opened(row, base=tmp_path)
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    at = interrupted_at(monkeypatch, number, times=1)
    with pytest.raises(
        KeyboardInterrupt, match="stopped after iteration 5; the same command resumes"
    ) as stopped:
        train.fit(row, folder=folder, validate=False)
    assert stopped.value.signum == number and at == [5]
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert folders.iterations_done(folder) == 5
    monkeypatch.setattr(supervised.meta_batch, "meta_gradient", GRADIENT)
    resumed = train.fit(row, folder=folder, until=7, validate=False)
    assert same(resumed.params, train.fit(row, until=7, validate=False).params)


def interrupted_at(monkeypatch, number, *, times, iteration=5):
    """Send this process a signal so many times within an iteration; notes whether the iteration came to its
    end."""
    ended, gradient, calls = [], supervised.meta_batch.meta_gradient, []

    def signalled(*args):
        calls.append(1)
        if len(calls) == iteration:
            for _ in range(times):
                os.kill(os.getpid(), number)
                time.sleep(0)  # Python handles a signal between two of its instructions
            ended.append(iteration)
        return gradient(*args)

    monkeypatch.setattr(supervised.meta_batch, "meta_gradient", signalled)
    return ended


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_interrupt_stops_at_once_and_leaves_the_last_saved_state(number, tmp_path, monkeypatch):
    folder = opened(ROW, base=tmp_path)
    train.fit(ROW, folder=folder, until=2, validate=False)
    saved = (folder / "state.safetensors").read_bytes()
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    ended = interrupted_at(monkeypatch, number, times=2)
    with pytest.raises(
        KeyboardInterrupt, match="stopped at once; the same command resumes from the last saved state"
    ) as stopped:
        train.fit(ROW, folder=folder, validate=False)
    assert (
        stopped.value.signum == number and not ended and (folder / "state.safetensors").read_bytes() == saved
    )
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    monkeypatch.setattr(supervised.meta_batch, "meta_gradient", GRADIENT)
    assert same(train.fit(ROW, folder=folder).params, train.fit(ROW).params)


@pytest.mark.parametrize("replaced", [False, True], ids=["before it is replaced", "after"])
@pytest.mark.parametrize("number", range(6))
def test_a_run_that_is_killed_at_any_file_goes_on_exactly(number, replaced, tmp_path, monkeypatch):
    monkeypatch.setattr(supervised_training, "LOG_EVERY", 2)
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", -1.0)  # save after each iteration
    folder, replace, done = opened(ROW, base=tmp_path), os.replace, []

    class Killed(BaseException):
        pass

    def killed(*paths):
        if replaced or len(done) < number:
            replace(*paths)
        done.append(paths)
        if len(done) > number:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, "replace", killed)
        train.fit(ROW, folder=folder, validate=False)
    resumed, straight = (
        train.fit(ROW, folder=folder, validate=False),
        train.fit(ROW, validate=False),
    )
    assert same(resumed.params, straight.params) and list(resumed.log.iteration) == [2, 4, 6, 8, 10]
    assert list(resumed.log.meta_loss) == list(straight.log.meta_loss)


def test_training_stops_when_asked_and_goes_on_exactly(tmp_path):
    folder, answers = opened(ROW, base=tmp_path), iter([False] * 4 + [True])
    first = train.fit(ROW, folder=folder, stop=lambda: next(answers))
    assert first.iteration == 4 and folders.iterations_done(folder) == 4
    assert train.fit(ROW, folder=folder, stop=lambda: True).iteration == 4
    assert same(train.fit(ROW, folder=folder).params, train.fit(ROW).params)


def test_progress_in_a_log_is_plain_lines_about_a_minute_apart(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    with terminal.progress_bar(ROW, 2, True) as bar:
        for _ in range(8):
            now[0] += 25
            bar.update()
            bar.set_postfix({"meta_loss": "1.5"}, refresh=False)
    shown = capsys.readouterr().err
    assert "\r" not in shown and "\x1b" not in shown
    lines = shown.removesuffix("\n").split("\n")  # no empty one
    assert [line.split()[1] for line in lines] == ["2/10", "5/10", "8/10", "10/10"]
    assert lines[1].startswith("sinusoid-maml: 5/10 [01:15<") and lines[2].endswith("meta_loss=1.5]")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"seed": -1}, "seed=-1, but a whole number from 0 on"),
        ({"seed": 1.5}, "seed=1.5, but a whole number from 0 on"),
        ({"seed": "a"}, "seed='a', but a whole number from 0 on"),
        ({"threads": 0}, "threads=0, but whole numbers from 1"),
        ({"row": "sinusoid-maml"}, "row='sinusoid-maml', but an experiment is needed"),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        train.fit(**({"row": ROW} | arguments))


def test_progress_in_a_terminal_is_a_bar_and_without_it_nothing_is_shown(monkeypatch, capsys):
    with terminal.progress_bar(ROW, 0, False) as bar:
        bar.update()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(terminal.sys.stderr, "isatty", lambda: True, raising=False)
    with terminal.progress_bar(ROW, 0, True) as bar:
        bar.update()
    assert "\rsinusoid-maml:" in capsys.readouterr().err


def test_time_before_a_stop_between_two_lines_of_the_log_counts(tmp_path, monkeypatch):
    clock = iter(range(0, 100_000, 10))  # ten seconds pass at every look, one look or more in an iteration
    monkeypatch.setattr(train.time, "perf_counter", lambda: float(next(clock)))
    folder = opened(ROW, base=tmp_path)
    for until in (3, 6):
        assert train.fit(ROW, folder=folder, until=until, validate=False).log.empty
    log = train.fit(ROW, folder=folder, validate=False).log
    assert log.seconds.iloc[-1] >= 10 * ROW.iterations


@pytest.mark.parametrize("until", [-1, 2.5, "5"])
def test_a_number_of_iterations_that_cannot_be_meant_is_refused(until):
    with pytest.raises(ValueError, match=f"until={until!r}, but a whole number of iterations"):
        train.fit(ROW, until=until)


def test_a_non_finite_loss_stops_with_its_iteration_and_keeps_the_last_good_state(tmp_path, monkeypatch):
    row = dataclasses.replace(ROW, inner_lr=1e20)
    folder = opened(row, base=tmp_path)
    with pytest.raises(
        FloatingPointError,
        match=r"iteration \d+ of sinusoid-maml, seed 0, run folder .*: "
        r"the meta-loss of iteration \d+ is (nan|inf); .*inner_lr.*; the state of iteration 0 is kept",
    ):
        train.fit(row, folder=folder)
    assert folders.iterations_done(folder) == 0
    folder = opened(ROW, base=tmp_path / "good")
    train.fit(ROW, folder=folder, until=1)
    good, gradient = (folder / "state.safetensors").read_bytes(), meta_batch.meta_gradient
    poisoned = lambda *args: (gradient(*args)[0], torch.full((4,), torch.nan))
    monkeypatch.setattr(supervised.meta_batch, "meta_gradient", poisoned)
    with pytest.raises(
        FloatingPointError, match="meta-loss of iteration 2 is nan.*; the state of iteration 1 is kept"
    ):
        train.fit(ROW, folder=folder)
    assert (folder / "state.safetensors").read_bytes() == good
    with pytest.raises(FloatingPointError, match="iteration 10 of sinusoid-maml, seed 0: .*no state is kept"):
        train.fit(ROW)


def test_an_error_says_of_which_iteration_the_saved_state_is(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", -1.0)  # save after each iteration
    calls, gradient = [], meta_batch.meta_gradient

    def poisoned(*args):
        calls.append(1)
        found, values = gradient(*args)
        return found, values * torch.nan if len(calls) == 4 else values

    monkeypatch.setattr(supervised.meta_batch, "meta_gradient", poisoned)
    folder = opened(ROW, base=tmp_path)
    with pytest.raises(FloatingPointError, match="iteration 4 of .*the state of iteration 3 is kept"):
        train.fit(ROW, folder=folder, validate=False)
    assert folders.iterations_done(folder) == 3


def test_an_interrupt_without_a_folder_does_not_promise_to_go_on(monkeypatch):
    interrupted_at(monkeypatch, signal.SIGINT, times=1)
    with pytest.raises(KeyboardInterrupt, match="stopped after iteration 5; nothing was saved"):
        train.fit(ROW, validate=False)


@pytest.mark.parametrize("inner_lr", [1e8, 1e7])  # NaN in the parameters; infinite moments of Adam
def test_a_gradient_that_overflows_behind_a_finite_loss_is_not_saved(inner_lr, tmp_path):
    row = dataclasses.replace(ROW, inner_lr=inner_lr)
    folder = opened(row, base=tmp_path)
    with pytest.raises(
        FloatingPointError,
        match="iteration 1 of sinusoid-maml, seed 0, run folder .*: the parameters, or the",
    ):
        train.fit(row, folder=folder, until=1)
    assert folders.iterations_done(folder) == 0


def test_no_task_of_an_evaluation_changes_another():
    params = supervised.build(GLYPHS).model.init(seeds.generator(0, "init"))
    test = GLYPHS.evaluations[0]
    few = supervised.evaluate(GLYPHS, params, test, n_tasks=3)
    many = supervised.evaluate(GLYPHS, params, test, n_tasks=supervised.EVALUATION_CHUNK + 5)
    for metric, values in few.items():
        assert values.shape == (3, 11)
        assert np.allclose(values, many[metric][:3], atol=1e-5)


def test_tasks_that_are_tested_some_at_a_time_are_those_of_all_at_once(monkeypatch):
    params = supervised.build(GLYPHS).model.init(seeds.generator(0, "init"))
    test, count = GLYPHS.evaluations[0], supervised.EVALUATION_CHUNK + 5
    whole = supervised.evaluate(GLYPHS, params, test, n_tasks=count)
    images = GLYPHS.ways * (test.shots + test.queries)
    monkeypatch.setattr(supervised, "PIECE_BYTES", 4 * 7 * 28 * 28 * images)  # of seven tasks
    sizes, tested = [], supervised.tested
    monkeypatch.setattr(
        supervised, "tested", lambda *args: (sizes.append(len(args[-1].query[1])), tested(*args))[1]
    )
    pieces = supervised.evaluate(GLYPHS, params, test, n_tasks=count)
    assert sizes == 2 * [*[7] * 14, 2]
    assert all(np.allclose(whole[metric], pieces[metric], atol=1e-5) for metric in whole)


def test_evaluation_is_a_plain_loop_over_tasks_and_leaves_no_tape():
    learner = supervised.build(ROW, ROW.evaluations[0])
    params = train.fit(ROW).params
    before = {k: v.clone() for k, v in params.items()}
    curves = supervised.evaluate(ROW, params, ROW.evaluations[0], n_tasks=4, seed=5)
    assert same(params, before) and not any(p.requires_grad for p in params.values())
    batch = tasks.make("sinusoid", "test", shots=5, queries=5).sample(
        seeds.generator(5, "evaluate test", 0), supervised.EVALUATION_CHUNK
    )
    for i in range(4):
        fast = {k: v.clone().requires_grad_() for k, v in params.items()}
        for step in range(11):
            x, y = (t[i] for t in batch.query)
            assert np.isclose(
                curves["mse"][i, step], ((learner.model.apply(fast, x) - y) ** 2).mean().item(), rtol=1e-4
            )
            gradient = torch.autograd.grad(
                learner.loss_fn(fast, tuple(t[i] for t in batch.support)), list(fast.values())
            )
            fast = {k: (v - 0.01 * g).detach().requires_grad_() for (k, v), g in zip(fast.items(), gradient)}


def test_accuracy_and_cross_entropy_are_those_of_the_logits():
    params = train.fit(GLYPHS).params
    curves = supervised.evaluate(GLYPHS, params, GLYPHS.evaluations[0], n_tasks=6)
    family = tasks.make("glyphs", "test", ways=5, shots=1, queries=1)
    batch = family.sample(seeds.generator(0, "evaluate test", 0), supervised.EVALUATION_CHUNK)
    for i in range(6):
        logits = supervised.build(GLYPHS).model.apply(params, batch.query[0][i])
        assert np.isclose(
            curves["accuracy"][i, 0], 100 * (logits.argmax(1) == batch.query[1][i]).float().mean()
        )
        assert np.isclose(
            curves["cross_entropy"][i, 0],
            torch.nn.functional.cross_entropy(logits, batch.query[1][i]),
            rtol=1e-4,
        )


def test_outputs_that_are_no_numbers_are_not_right():
    outputs = torch.tensor([[2.0, 1.0], [math.nan, math.nan], [math.inf, 0.0], [3.0, 1.0]])
    found = supervised._errors(GLYPHS.loss, outputs, torch.zeros(4, dtype=torch.int64))
    assert found["accuracy"] == 50 and found["cross_entropy"].isnan()


@pytest.mark.parametrize("outputs", [3, 15])
def test_another_number_of_outputs_than_of_classes_is_refused(outputs, monkeypatch):
    """More would be taken without a word, and fewer for an index that is out of bounds."""
    network = ("mlp", {"inputs": 784, "hidden": (4,), "outputs": outputs, "std": 0.1})
    row = dataclasses.replace(GLYPHS, network=network, evaluations=GLYPHS.evaluations[:1])
    params = supervised.build(row).model.init(torch.Generator().manual_seed(0))
    monkeypatch.setattr(
        supervised.meta_batch,
        "predictions",
        lambda made, params, batch: torch.zeros(
            row.evaluations[0].inner_steps + 1, *batch.query[1].shape, outputs
        ),
    )
    with pytest.raises(ValueError, match=f"predicts {outputs} outputs for a query, but ways=5 classes"):
        supervised.evaluate(row, params, row.evaluations[0], n_tasks=1)


@pytest.mark.parametrize("split", ["val", "test"])
def test_tasks_of_each_split_are_drawn_before_training(split, monkeypatch):
    """Not only made: what is wrong may show in a task alone."""
    usual = tasks.FAMILIES["glyphs"]

    class Ragged:
        def __init__(self, family):
            self.family = family

        def sample(self, draw, count):
            np.stack([np.zeros(10), np.zeros(20)])

    class Restless(Ragged):
        def sample(self, draw, count):
            return self.family.sample(torch.Generator().manual_seed(torch.seed() % 2**31), count)

    for kind, words in ((Ragged, "same shape"), (Restless, "generator of the same seed")):
        made = lambda which, device, kind=kind, **sizes: (
            kind if which == split else (lambda family: family)
        )(usual(which, device, **sizes))
        monkeypatch.setitem(tasks.FAMILIES, "glyphs", made)
        with pytest.raises(ValueError, match=f"split '{split}' of family 'glyphs' .*{words}"):
            trainings.begin(GLYPHS)


@pytest.mark.parametrize(("split", "test"), [("val", 0), ("test", 0), ("test", 1)])
def test_tests_that_cannot_be_drawn_are_refused_before_training(split, test, monkeypatch):
    few = tasks.FAMILIES["glyphs"]

    def family(which, device, *, ways, shots, queries):
        if which == split and queries == 13:
            raise ValueError("a class has 20 images")
        return few(which, device, ways=ways, shots=shots, queries=queries)

    monkeypatch.setitem(tasks.FAMILIES, "glyphs", family)
    tests = [dataclasses.replace(GLYPHS.evaluations[0], name=name) for name in ("Q=1", "Q=13")]
    tests[test] = dataclasses.replace(tests[test], queries=13)
    row = dataclasses.replace(GLYPHS, evaluations=tuple(tests))
    with pytest.raises(ValueError, match=f"its tests '{tests[test].name}' cannot be drawn.*20 images"):
        trainings.begin(row)
    if split == "val":  # nothing is drawn there without validation
        trainings.begin(row, validate=False)


@pytest.mark.parametrize("row", [ROW, GLYPHS], ids=["sinusoid", "glyphs"])
def test_the_modes_of_a_caller_do_not_change_an_evaluation(row):
    params = supervised.build(row).model.init(seeds.generator(0, "init"))
    wanted = supervised.evaluate(row, params, row.evaluations[0], n_tasks=3)
    with torch.inference_mode(), torch.autocast("cpu"):
        found = supervised.evaluate(
            row, {k: v.clone() for k, v in params.items()}, row.evaluations[0], n_tasks=3
        )
    assert all(np.array_equal(found[metric], values) for metric, values in wanted.items())


def test_what_cannot_be_evaluated_is_refused():
    row, test = GLYPHS, GLYPHS.evaluations[0]
    params = supervised.build(row).model.init(seeds.generator(0, "init"))
    for n_tasks in (0, -1, 2.5):
        with pytest.raises(ValueError, match=f"n_tasks={n_tasks}, but it must be a whole number, at least 1"):
            supervised.evaluate(row, params, test, n_tasks=n_tasks)
    assert len(supervised.evaluate(row, params, test, n_tasks=np.int64(2))["accuracy"]) == 2
    wide = dataclasses.replace(row, network=("conv4", {"ways": 5, "filters": 64}))
    with pytest.raises(ValueError, match=r"'conv0' is \(4, .* this network takes \(64, 1, 3, 3\)"):
        supervised.evaluate(wide, params, test)


def test_generators_depend_on_seed_purpose_and_index_alone():
    draw = lambda *key: torch.rand(4, generator=seeds.generator(*key))
    assert torch.equal(draw(0, "train", 7), draw(0, "train", 7))
    keys = [(0, "train", 7), (1, "train", 7), (0, "init", 7), (0, "train", 8)]
    assert len({tuple(draw(*key).tolist()) for key in keys}) == 4


def test_a_command_names_the_forms_of_convolutions_that_there_are(monkeypatch):
    assert tuple(convolutions.FORMS) == __main__.FORMS
    monkeypatch.setattr(devices, "available", lambda device: torch.device("cuda"))
    try:
        devices.set_up("cuda", form="grouped")
        assert convolutions.in_use() == "grouped"
        devices.set_up("cuda")  # which changes none
        assert convolutions.in_use() == "grouped"
    finally:
        convolutions.use(convolutions.DEFAULT)


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="use 'cpu', or 'auto'"):
        devices.set_up("quantum")
    with pytest.raises(ValueError, match="device='meta' cannot be used"):
        devices.set_up("meta")
    for threads in (0, 10**7, 1.5):
        with pytest.raises(ValueError, match=f"threads={threads}, but whole numbers from 1 to"):
            devices.set_up("cpu", threads=threads)
    with pytest.raises(ValueError, match="--tf32 is for a GPU, but the device is cpu; leave it out"):
        devices.set_up("cpu", tf32=True)
    with pytest.raises(ValueError, match="--convolutions grouped is for a GPU, but the device is cpu"):
        devices.set_up("cpu", form="grouped")
    assert devices.set_up("cpu", threads=torch.get_num_threads()) == torch.device("cpu")
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize(
    "name", ["sinusoid-maml", "2d-navigation-maml", "bandit-5-arms-10-pulls-rl2", "chain-parameter-noise"]
)
def test_trainings_and_tests_refuse_a_device_in_the_same_words(name, monkeypatch):
    row = paper.get(name)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    for call in (train.fit, lambda row, device: trainings.evaluate_row(row, {}, device=device)):
        for device in ("gpu", "meta", torch.device("meta"), 1.5):
            with pytest.raises(ValueError, match="device=.* cannot be used .*; use 'cpu', or 'auto'"):
                call(row, device=device)
    assert torch.backends.cudnn.allow_tf32  # who calls from Python has chosen


@pytest.mark.parametrize(
    ("coarse", "form", "words"),
    [
        (False, "unfolded", "H200"),
        (True, "unfolded", "H200, TF32"),
        (False, "grouped", "H200, grouped convolutions"),
        (True, "grouped", "H200, grouped convolutions, TF32"),  # by which it is not kept
    ],
)
def test_what_rounds_otherwise_is_in_the_name_of_a_gpu(coarse, form, words, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "H200")
    monkeypatch.setattr(convolutions, "_form", form)
    products, own = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, own.allow_tf32
    try:
        for products.allow_tf32, own.allow_tf32 in {(coarse, coarse), (False, coarse), (coarse, False)}:
            assert devices.described(torch.device("cuda")) == words
    finally:
        products.allow_tf32, own.allow_tf32 = before
    assert "convolutions" not in devices.described(torch.device("cpu"))  # which has loops of its own


@pytest.mark.parametrize(("row", "last"), [(ROW, "bias1"), (GLYPHS, "shift3")], ids=["sinusoid", "glyphs"])
def test_a_dead_network_is_said(row, last):
    params = supervised.build(row).model.init(torch.Generator().manual_seed(0))
    test = row.evaluations[-1]  # with several queries of a class
    with warnings.catch_warnings(action="error"):
        supervised.evaluate(row, params, test, n_tasks=3)
    dead = params | {last: torch.full_like(params[last], -1e3)}
    with pytest.warns(RuntimeWarning, match=f"{row.name}: after every step .* the network may be dead"):
        supervised.evaluate(row, dead, test, n_tasks=3)
