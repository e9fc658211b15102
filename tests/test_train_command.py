"""`maskmill train` by hand: it learns, is killed and goes on as if it had not been, and names bad data first."""

import json
import re
import signal
import subprocess

import numpy as np
import pytest
import rasterio
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from models.checkpoint import Checkpoint, opened  # noqa: E402
from tests.lakes import lakes, put_large, put_pairs  # noqa: E402
from tests.mill import COMMAND, last_json, maskmill, surroundings  # noqa: E402

pytestmark = pytest.mark.slow
SMALL = ("--arch", "unet?widths=4,8&norm=batch", "--window", "32", "--batch", "4", "--rate", "0.01")


def trained(folder, *arguments):
    done = maskmill("train", *arguments, *SMALL, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return last_json(done), done.stderr


def refused(folder, *arguments):
    """The sentence of a training that cannot start, and that nothing was written."""
    before = sorted(folder.rglob("*"))
    done = maskmill("train", *SMALL, *arguments, "--out", "refused", cwd=folder)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(folder.rglob("*")) == before
    return done.stderr


def same(one, other):
    """Whether two trainings came to the same, but for what the card says of the folder."""
    for name, kind in (("checkpoint.safetensors", "checkpoint"), ("state.safetensors", "state")):
        (ours, said), (theirs, told) = opened(one / name, kind), opened(other / name, kind)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
        assert {key: said.get(key) for key in ("lines", "best", "epoch")} == {
            key: told.get(key) for key in ("lines", "best", "epoch")
        }
    return True


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    put_pairs(folder / "data")
    return folder


def test_it_learns_from_pairs_and_says_how_well(pairs):
    found, said = trained(pairs, "data", "--out", "learnt", "--epochs", "12", "--seed", "1")
    assert found["best"]["iou"]["foreground"] > 0.8
    assert found["best"]["mean_iou"] == max(line["mean_iou"] for line in found["epochs"])
    assert found["recipe"]["seed"] == 1
    held = {name for name, *_ in found["data"]["held_out"]}
    assert len(held) == 2  # of eight, a fifth rounded up
    assert json.loads((pairs / "learnt" / "metrics.json").read_text()) == {
        key: value for key, value in found.items() if key != "exit_code"
    }
    assert Image.open(pairs / "learnt" / "curves.png").size[0] > 600
    card = Checkpoint.load(pairs / "learnt" / "checkpoint.safetensors").card
    assert (card.name, card.activation, card.dtype) == ("learnt", "sigmoid", "uint8")
    assert [(one.value, one.name) for one in card.classes] == [(0, "background"), (1, "foreground")]
    assert "epoch 12: loss" in said


@pytest.mark.parametrize("after", ["epoch 1:", "epoch 2:"])
def test_killed_and_gone_on_with_it_is_as_if_it_had_not_been(pairs, after, tmp_path):
    flags = ("data", "--epochs", "4", "--seed", "3", "--name", "same")
    if not (pairs / "whole").exists():
        trained(pairs, *flags, "--out", "whole")
    command = [*COMMAND, "train", *flags, *SMALL, "--out", str(tmp_path / "killed")]
    process = subprocess.Popen(command, cwd=pairs, env=surroundings(), stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if after in line:
            process.send_signal(signal.SIGSTOP)
            break
    second = maskmill("train", *flags, *SMALL, "--out", tmp_path / "killed", cwd=pairs)  # while the first is stopped
    assert (second.returncode, "a training in" in second.stderr) == (2, True), second.stderr
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stderr.close()
    _, said = trained(pairs, *flags, "--out", tmp_path / "killed")
    assert re.search(r"[123] epochs are done already", said)
    assert same(pairs / "whole", tmp_path / "killed")


def test_another_recipe_or_other_data_do_not_go_on_and_more_epochs_do(pairs):
    trained(pairs, "data", "--out", "more", "--epochs", "1")
    refusal = maskmill("train", "data", "--out", "more", *SMALL[:-1], "0.02", cwd=pairs)
    assert (refusal.returncode, "rate 0.01, and 0.02 is asked for" in refusal.stderr) == (2, True)
    put_pairs(pairs / "others", count=5)
    refusal = maskmill("train", "others", "--out", "more", *SMALL, cwd=pairs)
    assert (refusal.returncode, "began with other data" in refusal.stderr) == (2, True)
    for other in (("--bands", "3,2,1"), ("--classes", "0=land,255=lake")):
        refusal = maskmill("train", "data", *other, "--out", "more", *SMALL, cwd=pairs)
        assert (refusal.returncode, "began with other data" in refusal.stderr) == (2, True), refusal.stderr
    found, _ = trained(pairs, "data", "--out", "more", "--epochs", "2")
    straight, _ = trained(pairs, "data", "--out", "straight", "--epochs", "2")
    assert found["epochs"] == straight["epochs"]
    anew, _ = trained(pairs, "others", "--out", "more", "--epochs", "1", "--overwrite")
    assert len(anew["epochs"]) == 1


@pytest.mark.parametrize("labels", ["labels.tif", "labels.geojson"])
def test_one_large_image_is_divided_into_what_trains_and_what_does_not(tmp_path, labels):
    truth = put_large(tmp_path)
    flags = ("scene.tif", "--labels", labels, "--out", "large", "--epochs", "3", "--loss", "bce+dice")
    found, _ = trained(tmp_path, *flags, "--class-weights", "balanced")
    held = sum(found["data"]["held_out_pixels"].values())
    assert 0.1 < held / truth.size < 0.35
    if labels == "labels.tif":
        assert found["best"]["iou"]["foreground"] > 0.6
        total = dict.fromkeys(("background", "foreground"), 0)
        for _, top, left, bottom, right in found["data"]["held_out"]:
            part = truth[top:bottom, left:right]
            total["background"] += int((part == 0).sum())
            total["foreground"] += int((part == 1).sum())
        assert total == found["data"]["held_out_pixels"]
    else:
        assert list(found["best"]["iou"]) == ["background", "labels"]


def test_several_classes_of_values_that_are_no_index_are_kept(tmp_path):
    truth = put_large(tmp_path)
    values = np.where(truth == 1, 7, np.where(np.arange(truth.shape[1]) < 100, 40, 3)).astype(np.uint8)
    values[:20] = 99
    with rasterio.open(tmp_path / "labels.tif", "r+") as file:
        file.write(values, 1)
    named = ("--classes", "3=field,7=lake,40=wood", "--ignore", "99")
    found, _ = trained(tmp_path, "scene.tif", "--labels", "labels.tif", *named, "--out", "m", "--epochs", "1")
    card = Checkpoint.load(tmp_path / "m" / "checkpoint.safetensors").card
    assert [(one.value, one.name) for one in card.classes] == [(3, "field"), (7, "lake"), (40, "wood")]
    assert card.activation == "softmax"
    counted = {name: int((values == value).sum()) for name, value in (("field", 3), ("lake", 7), ("wood", 40))}
    told = found["data"]
    assert all(told["training_pixels"][name] + told["held_out_pixels"][name] <= counted[name] for name in counted)


def test_images_of_sixteen_bits_are_standardised_by_what_trains(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for at in range(6):
        image, truth = lakes(40, 56, at)
        for folder, pixels in (("images", image.astype(np.uint16) * 20 + 900), ("masks", truth[None])):
            with rasterio.open(
                tmp_path / "data" / folder / f"{at}.tif", "w", driver="GTiff", count=len(pixels), height=40, width=56,
                dtype=pixels.dtype,
            ) as file:  # fmt: skip
                file.write(pixels)
    trained(tmp_path, "data", "--bands", "3,1", "--out", "m", "--epochs", "1")
    card = Checkpoint.load(tmp_path / "m" / "checkpoint.safetensors").card
    assert (card.dtype, card.scaling.kind, card.file_bands) == ("uint16", "mean_std", (3, 1))
    assert all(900 < mean < 20 * 255 + 900 for mean in card.scaling.mean)


def test_it_begins_with_the_weights_of_a_file_and_ends_early_where_nothing_gets_better(pairs):
    trained(pairs, "data", "--out", "first", "--epochs", "6")
    weights = Checkpoint.load(pairs / "first" / "checkpoint.safetensors").weights
    torch.save({"state_dict": dict(list(weights.items())[:-2])}, pairs / "weights.pth")
    flags = ("--weights", "weights.pth", "--epochs", "40", "--patience", "2")
    found, said = trained(pairs, "data", "--out", "second", *flags)
    assert re.search(r"Not in \S*weights.pth is what begins at random: \S+, \S+\.\n", said), said
    assert len(found["epochs"]) == found["best_epoch"] + 2 < 40
    torch.save({"other": torch.zeros(3)}, pairs / "foreign.pth")
    assert "None of the 1 weights of the file" in refused(pairs, "data", "--weights", "foreign.pth")
    torch.save(torch.nn.Linear(2, 2), pairs / "pickled.pth")
    assert "no weights that can be read safely" in refused(pairs, "data", "--weights", "pickled.pth")


def test_what_to_hold_out_can_be_named(pairs):
    if not (pairs / "held").exists():
        put_pairs(pairs / "held", count=3, side=64)
    found, _ = trained(pairs, "data", "--validation", "held", "--out", "validated", "--epochs", "1")
    assert sum(found["data"]["held_out_pixels"].values()) == 3 * 64 * 64
    assert sum(found["data"]["training_pixels"].values()) == 8 * 48 * 48
    assert "is to be validated on, and trained on as 0" in refused(pairs, "data", "--validation", "data")


def _shrunk(data):
    Image.fromarray(np.zeros((48, 47), np.uint8)).save(data / "masks" / "3_mask.png")


def _strange(data):
    Image.fromarray(np.full((48, 48), 7, np.uint8)).save(data / "masks" / "3_mask.png")


def _torn(data):
    whole = (data / "images" / "5.png").read_bytes()
    (data / "images" / "5.png").write_bytes(whole[: len(whole) // 2])


def _no_image(data):
    (data / "images" / "5.png").write_text("no image")


def _alone(data):
    (data / "masks" / "2_mask.png").unlink()


def _empty(data):
    for path in (data / "masks").iterdir():
        Image.fromarray(np.zeros((48, 48), np.uint8)).save(path)


def _grey(data):
    Image.fromarray(np.zeros((48, 48), np.uint8)).save(data / "images" / "1.png")


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        (_shrunk, "1 of 8 images cannot be trained on. 3: The image is 48 × 48 px and"),
        (_strange, r"3: .*have values that are no class \(7\) at 2,304 pixels"),
        (_torn, "5: .*(cannot be read|cut short|is damaged)"),
        (_no_image, "5: "),
        (_alone, r"1 of 8 images have no mask \(2\)"),
        (_empty, "No pixel of 8 images is labelled lake"),
        (_grey, "The images are not alike: 0 has 3 bands of uint8, 1 has 1 bands of uint8"),
    ],
)
def test_bad_data_is_named_before_the_first_epoch(tmp_path, spoilt, message):
    spoilt(put_pairs(tmp_path / "data"))
    said = refused(tmp_path, "data", "--classes", "0=land,255=lake")
    assert re.search(message, said), said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "There is no file or folder nowhere"),
        (("data/images",), "has no folders images and masks"),
        (("data", "--window", "33"), "wants a multiple of 2 px, such as 34"),
        (("data", "--loss", "ce+bce"), "bce tells two apart, without ce"),
        (("data", "--class-weights", "1,2,3"), "`--class-weights` are 3, and 2 classes"),
        (("data", "--class-weights", "one"), "`--class-weights` cannot be 'one'"),
        (("data", "--bands", "4"), "There is no band 4"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(pairs, arguments, message):
    assert message in refused(pairs, *arguments)


def test_labels_whose_first_class_is_declared_to_be_no_data_are_told_with_the_way_out(tmp_path):
    put_large(tmp_path)
    with rasterio.open(tmp_path / "labels.tif", "r+") as file:
        file.nodata = 0
    flags = ("scene.tif", "--labels", "labels.tif", "--epochs", "1")
    assert "What the labels declare to be no data is none" in refused(tmp_path, *flags)
    named = (*flags, "--classes", "0=land,1=lake")
    assert "--map 0=land counts them" in refused(tmp_path, *named)
    trained(tmp_path, *named, "--map", "0=land", "--out", "m")
