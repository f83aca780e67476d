"""Mini-ImageNet: what is loaded, what is kept, its lists of classes, its families, its command."""

import multiprocessing
import os
import subprocess
import sys
import time
import warnings
from itertools import islice

import numpy as np
import pytest
import torch

import small_mini_imagenet
from mamlkit import __main__ as command
from mamlkit import tasks
from mamlkit.tasks import mini_imagenet, mini_imagenet_files
from small_mini_imagenet import FORMS, files, in_cache, jpeg, put, right, same

empty = pytest.fixture(small_mini_imagenet.small, name="empty")


@pytest.fixture
def small(empty):
    """The folder of a whole small Mini-ImageNet."""
    put(empty, files(), "folder")
    return empty


# ---- loading


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_banks(empty, form):
    put(empty, files(), form)
    assert mini_imagenet.available()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for classes in mini_imagenet.LISTS:
            for split in mini_imagenet.SPLITS:
                assert same(mini_imagenet.load(split, classes), right(split, classes))


@pytest.mark.parametrize("form", [".tar.xz", ".tar", ".zip"])
def test_an_archive_with_a_folder_above_tables_last_and_what_a_mac_leaves(empty, form):
    content = dict(reversed(files().items())) | {"__MACOSX/images/._n0300000000.jpg": b"", "notes.txt": b""}
    content |= {"images/._n0300000000.jpg": b"x", "images/one_more.jpg": b"not in the tables"}
    put(empty, {f"a/b/{name}": data for name, data in content.items()}, form)
    assert same(mini_imagenet.load("train"), right("train"))


def test_tables_of_windows_are_read(small):
    for name in ("train.csv", "val.csv", "test.csv"):
        data = (small / name).read_bytes()
        (small / name).write_bytes(b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n"))
    assert same(mini_imagenet.load("val"), right("val"))


def test_a_grey_picture_becomes_red_green_and_blue(small):
    (small / "images" / "n0300000000.jpg").write_bytes(jpeg(5, mode="L"))
    image = mini_imagenet.load("train").images[0, 0]
    assert torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])


def test_the_images_are_mapped_and_a_write_does_not_reach_the_file(small):
    images = mini_imagenet.load("train").images
    wanted = images[0, 0].clone()
    images[0, 0] = 0
    assert torch.equal(mini_imagenet.load("train").images[0, 0], wanted)


# ---- what is kept


def test_the_second_load_reads_no_picture(small, monkeypatch):
    mini_imagenet.load("train")
    assert len(in_cache()) == 2  # the images and their checksum
    monkeypatch.setattr(mini_imagenet_files, "decode", None)
    assert same(mini_imagenet.load("test"), right("test"))


@pytest.mark.parametrize("form", ["folder", ".zip"])
def test_a_source_that_changes_is_decoded_anew_and_the_old_images_are_removed(empty, form):
    put(empty, files(), form)
    before, first = in_cache(), mini_imagenet.load("train").images[0, 0].clone()
    kept = in_cache()
    put(empty, files() | {"images/n0300000000.jpg": jpeg(99)}, form)
    os.utime(empty / ("images/n0300000000.jpg" if form == "folder" else "mini_imagenet.zip"), ns=(1, 1))
    assert not torch.equal(mini_imagenet.load("train").images[0, 0], first)
    assert before == [] and len(in_cache()) == 2 and not set(kept) & set(in_cache())


def test_decoded_images_that_were_cut_short_are_made_anew(small):
    path = mini_imagenet.prepare()
    os.truncate(path, 1000)
    assert same(mini_imagenet.load("train"), right("train"))


def test_the_pictures_of_a_folder_are_looked_at_once_until_it_changes(small, monkeypatch):
    looks, identity = [], mini_imagenet_files.identity
    monkeypatch.setattr(mini_imagenet_files, "identity", lambda source: looks.append(1) or identity(source))
    for _ in range(2):  # the folder is younger than the grain of times, so it is looked at each time
        before = len(looks)
        assert same(mini_imagenet.load("val"), right("val")) and len(looks) > before
    monkeypatch.setattr(mini_imagenet_files, "_GRAIN", 0)
    mini_imagenet.prepare()

    def looked():
        """How often three loads look."""
        looks.clear()
        for split in mini_imagenet.SPLITS:
            mini_imagenet.load(split)
        return len(looks)

    def change(how):
        time.sleep(0.05)  # beyond the grain of this machine's times
        how()

    assert looked() == 0
    more, picture = small / "images" / "one_more.jpg", small / "images" / "n0300000000.jpg"
    kept = in_cache()
    for how in (
        lambda: more.write_bytes(jpeg(98)),
        lambda: more.unlink(),
        lambda: (picture.with_name("new").write_bytes(jpeg(99)), picture.with_name("new").replace(picture)),
        lambda: (small / "train.csv").write_bytes((small / "train.csv").read_bytes() + b"\n"),
    ):
        change(how)
        assert looked() == 2 and in_cache() != kept  # once for the name, once more before decoding
        assert looked() == 0
        kept = in_cache()
    assert np.array_equal(mini_imagenet.load("train").images[0, 0], mini_imagenet_files.decode(jpeg(99), ""))


def test_what_is_decoded_has_the_name_of_what_is_there_then(small, monkeypatch):
    """A picture that is mended in place, which shows in no time of the folder."""
    monkeypatch.setattr(mini_imagenet_files, "_GRAIN", 0)
    picture = small / "images" / "n0300000000.jpg"
    picture.write_bytes(b"no picture")
    with pytest.raises(ValueError, match="not a readable JPEG"):
        mini_imagenet.load("train")
    picture.write_bytes(files()["images/n0300000000.jpg"])
    assert same(mini_imagenet.load("train"), right("train"))
    (images,) = [name for name in in_cache() if name.endswith(".images")]
    mini_imagenet_files._identity.cache_clear()  # as another process
    monkeypatch.setattr(mini_imagenet_files, "decode", None)
    assert mini_imagenet.prepare().name == images


def test_decoded_images_of_which_much_has_changed_are_made_anew(small):
    path = mini_imagenet.prepare()
    with path.open("rb+") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(path.stat().st_size // 8))  # of zeros
    assert same(mini_imagenet.load("train"), right("train"))
    assert mini_imagenet.check(small).wrong == ()


@pytest.mark.parametrize("record", ["", "{}", '{"sha256": "0"}', "[]", None])
def test_decoded_images_without_a_sum_of_a_sample_are_taken_as_they_are(small, monkeypatch, record):
    beside = mini_imagenet.prepare().with_suffix(".json")
    beside.unlink() if record is None else beside.write_text(record)
    monkeypatch.setattr(mini_imagenet_files, "decode", None)
    assert same(mini_imagenet.load("test"), right("test"))


def test_what_a_killed_process_left_is_removed(small):
    path = mini_imagenet.prepare()
    left = path.with_name(f"{path.name}.{'0' * 16}.tmp")
    path.rename(left)
    mini_imagenet.load("train")
    assert not left.exists()


def test_an_interrupted_decoding_leaves_nothing(small, monkeypatch):
    def interrupt(data, where):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(mini_imagenet_files, "decode", interrupt)
        mini_imagenet.load("train")
    assert in_cache() == []
    assert same(mini_imagenet.load("train"), right("train"))


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="the data set is patched in"
)
def test_of_processes_that_start_at_once_one_decodes(small, monkeypatch):
    context = multiprocessing.get_context("fork")
    count, start, decoded = context.Value("i", 0), context.Barrier(3), mini_imagenet._decode

    def counted(*arguments):
        with count:
            count.value += 1
        decoded(*arguments)

    def load():
        start.wait()
        os._exit(0 if same(mini_imagenet.load("val"), right("val")) else 1)

    monkeypatch.setattr(mini_imagenet, "_decode", counted)
    processes = [context.Process(target=load) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0] and count.value == 1


# ---- the committed lists


def test_the_lists_have_the_sizes_that_they_are_called_by_and_their_splits_are_runs_of_one_order():
    for name in mini_imagenet.LISTS:
        split_of = mini_imagenet._split_of(name)
        places = [
            [i for i, its in enumerate(split_of.values()) if its == split] for split in mini_imagenet.SPLITS
        ]
        assert "/".join(str(len(rows)) for rows in places) == name
        assert all(rows == list(range(rows[0], rows[-1] + 1)) for rows in places)
        assert len(split_of) == 100 and list(split_of) == list(
            mini_imagenet._split_of(mini_imagenet.LISTS[0])
        )


def test_the_four_classes_that_move_are_drawn_with_seed_0():
    first, second = map(mini_imagenet._split_of, mini_imagenet.LISTS)
    validation = sorted(name for name, split in first.items() if split == "val")
    moved = {validation[place] for place in np.random.RandomState(0).permutation(16)[:4]}
    assert {name for name in first if first[name] != second[name]} == moved
    assert all((first[name], second[name]) == ("val", "test") for name in moved)
    for split in ("train", "test"):
        names = [name for name, its in first.items() if its == split]
        assert names == sorted(names)


# ---- families


@pytest.mark.parametrize("family", [name for name in tasks.FAMILIES if "mini-imagenet" in name])
@pytest.mark.parametrize("split", mini_imagenet.SPLITS)
def test_every_family_keeps_the_contract(small, family, split):
    task = tasks.make(family, split, ways=2, shots=1, queries=2).sample(torch.Generator().manual_seed(0), 3)
    for images, labels in task:
        assert images.shape[2:] == (3, 84, 84) and images.shape[:2] == labels.shape and len(labels) == 3
        assert images.dtype == torch.float32 and images.min() >= 0 and images.max() <= 1


def test_families_by_name(small):
    size = {"shots": 1, "queries": 2}
    family = tasks.make("mini-imagenet", "val", ways=3, **size)
    task = family.sample(torch.Generator().manual_seed(0), 2)
    assert task.support[0].shape == (2, 3, 3, 84, 84) and task.query[0].shape == (2, 6, 3, 84, 84)
    assert not family.rotations and same(family.bank, right("val"))
    assert same(tasks.make("mini-imagenet, 64/12/24", "test", ways=3, **size).bank, right("test", "64/12/24"))
    with pytest.raises(ValueError, match="'val' split has 2 classes"):
        tasks.make("mini-imagenet, 64/12/24", "val", ways=3, **size)


def test_all_classes_have_their_own_labels_in_every_batch(small):
    family = tasks.make("mini-imagenet, all classes", "train", ways=2, shots=2, queries=1)
    (support, labels), (query, query_labels) = family.sample(torch.Generator().manual_seed(0), 5)
    bank = right("train").images.float() / 255
    assert labels.tolist() == query_labels.tolist() == [[0, 0, 1, 1, 2, 2]] * 5
    for images, others in zip(support, query, strict=True):
        for label, shown in enumerate(torch.cat([images.view(3, 2, -1), others.view(3, 2, -1)], 1)):
            is_one = (shown[:, None] == bank[label].flatten(1)).all(-1)  # [shown, pictures of the class]
            assert is_one.any(0).all()  # all four, each once: two in the support, two others in the query
    same_seed = family.sample(torch.Generator().manual_seed(0), 5)
    assert torch.equal(same_seed.support[0], support) and not torch.equal(support[0], support[1])


def test_all_classes_validate_and_test_on_tasks(small):
    family = tasks.make("mini-imagenet, all classes", "test", ways=2, shots=1, queries=2)
    assert family.ways == 2 and family.queries == 2 and same(family.bank, right("test"))


def test_too_many_shots_of_all_classes_are_refused(small):
    with pytest.raises(ValueError, match="shots=3 and queries=3, but a class has 4 images"):
        tasks.make("mini-imagenet, all classes", "train", shots=3, queries=1)


# ---- the command


def test_the_command_prepares_and_checks(small, capsys):
    assert command.main(["data", "mini-imagenet"]) == 0
    path = capsys.readouterr().out.strip()
    assert os.path.basename(path) in in_cache()
    assert command.main(["data", "mini-imagenet", "--check", str(small)]) == 0
    out, err = capsys.readouterr()
    assert err == "" and out.count("right: ") == len(out.splitlines()) == 3
    assert "32 of 32 pictures" in out and f"{path}: the decoded images are as they were written" in out


def test_a_check_looks_into_the_folder_of_data_sets_too(small, capsys, tmp_path):
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "mini_imagenet").symlink_to(small, target_is_directory=True)
    assert command.main(["data", "mini-imagenet", "--check", str(tmp_path / "all")]) == 0
    assert "32 of 32 pictures" in capsys.readouterr().out


def test_a_check_tells_every_finding_and_keeps_nothing(small, capsys):
    (small / "test.csv").unlink()
    (small / "images" / "n0300000000.jpg").unlink()
    (small / "images" / "n0500000001.jpg").write_bytes(b"no picture")
    (small / "images" / "n0200000002.jpg").write_bytes(jpeg(0, 84, 83))
    (small / "val.csv").write_bytes((small / "val.csv").read_bytes().replace(b"n0400000003.jpg,n04\n", b""))
    assert command.main(["data", "mini-imagenet", "--check", str(small)]) == 1
    wrong = [line for line in capsys.readouterr().out.splitlines() if line.startswith("wrong: ")]
    said = ["lacks test.csv", "n0300000000.jpg", "n0500000001.jpg is not a readable", "84 x 83"]
    for words in [*said, "class n04 has 3 pictures"]:
        assert sum(words in line for line in wrong) == 1, words
    assert in_cache() == []


def test_a_check_finds_decoded_images_that_have_changed(small, capsys):
    path = mini_imagenet.prepare()
    with path.open("rb+") as file:
        file.seek(12345)
        file.write(b"??")
    assert command.main(["data", "mini-imagenet", "--check", str(small)]) == 1
    assert f"{path}: the decoded images have changed" in capsys.readouterr().out


def test_a_check_of_what_is_no_data_set(tmp_path, capsys):
    for folder, says in ((tmp_path, "no tables"), (tmp_path / "none", "it is not a folder")):
        assert command.main(["data", "mini-imagenet", "--check", str(folder)]) == 1
        assert f"wrong: {folder}: {says}" in capsys.readouterr().out


def test_the_command_says_how_to_get_the_data(empty, capsys):
    assert command.main(["data", "mini-imagenet"]) == 1
    assert "twitter/meta-learning-lstm" in capsys.readouterr().err
    assert command.main(["data", "omniglot", "--check", str(empty)]) == 1
    assert "--check is for mini-imagenet" in capsys.readouterr().err


# ---- the real data


def test_the_real_mini_imagenet():
    if not mini_imagenet.available():
        pytest.skip("no Mini-ImageNet here; set MAMLKIT_DATA")
    for classes in mini_imagenet.LISTS:
        banks = {split: mini_imagenet.load(split, classes) for split in mini_imagenet.SPLITS}
        assert "/".join(str(len(bank.names)) for bank in banks.values()) == classes
        for bank in banks.values():
            assert bank.images.shape[1:] == (600, 3, 84, 84)
            red, green, blue = bank.images[:, ::200].float().mean((0, 1, 3, 4)).tolist()
            assert 130 > red > green > blue > 90


def test_real_pictures_lie_at_the_places_of_their_names(monkeypatch):
    if not mini_imagenet.available():
        pytest.skip("no Mini-ImageNet here; set MAMLKIT_DATA")
    source = mini_imagenet._find()
    split_of, findings = mini_imagenet._split_of("64/16/20"), []
    places = mini_imagenet_files.places(source, split_of, 600, findings.append)
    assert len(places) == 60_000 and findings == []
    banks = {split: mini_imagenet.load(split) for split in mini_imagenet.SPLITS}
    names = {place: name for name, place in places.items()}
    for place, pixels in islice(mini_imagenet_files.images(source, places, findings.append, ""), 50):
        label = names[place][:9]  # as Ravi & Larochelle name them
        bank = banks[split_of[label]]
        assert np.array_equal(bank.images[bank.names.index(label), place[1]], pixels)


TWO_ITERATIONS = """
from pathlib import Path

from mamlkit.experiments import paper
from mamlkit.runs import devices, train

devices.set_up("cpu", threads=1)
train.fit(paper.get("mini-imagenet-5way-1shot"), until=2, validate=False)
lines = Path("/proc/self/status").read_text().splitlines()
print(*(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells the peak of a process")
def test_training_on_the_real_images_stays_under_the_memory_that_is_promised():
    """The peak holds the few mapped pages that were looked at; all 64 classes would add 0.8 GB to it."""
    if not mini_imagenet.available():
        pytest.skip("no Mini-ImageNet here; set MAMLKIT_DATA")
    mini_imagenet.prepare()  # decoding has a peak of its own
    command_line = [sys.executable, "-c", TWO_ITERATIONS]
    done = subprocess.run(command_line, capture_output=True, text=True, check=True)
    assert 0.3e9 < 1024 * int(done.stdout) < 1.5e9
