"""The text that names a network: what it means, that it comes back, and the sentence where it cannot be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.architecture import Architecture, stride_of
from pipeline.errors import SettingsError

WIDTHS = st.lists(st.integers(1, 999), min_size=2, max_size=6)


@given(WIDTHS, st.sampled_from(["none", "batch"]), st.sampled_from(["transposed", "nearest"]))
def test_a_text_comes_back_and_means_what_it_says(widths, norm, rise):
    text = f"unet?widths={','.join(map(str, widths))}&norm={norm}&rise={rise}"
    made = Architecture.of(text)
    assert str(made) == text
    assert Architecture.of(str(made)) == made
    assert made.arguments() == {"widths": tuple(widths), "norm": norm, "rise": rise}


def test_options_of_a_foreign_network_are_its_own_arguments():
    made = Architecture.of("smp:Unet?encoder=resnet18&encoder_depth=4&decoder_channels=64,32,16,8&x=0.5&y=none&z=True")
    assert made.foreign
    assert made.arguments() == {
        "encoder_name": "resnet18",
        "encoder_depth": 4,
        "decoder_channels": (64, 32, 16, 8),
        "x": 0.5,
        "y": None,
        "z": True,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "There is no architecture ''"),
        ("unet3", "say unet"),
        ("smp:", "such as smp:DeepLabV3Plus"),
        ("smp:os.system", "There is no architecture"),
        ("unet?widths", "say each option once, as key=value"),
        ("unet?norm=batch&norm=none", "says 'norm=none': say each option once"),
        ("unet?width=3,4", "no option width; a unet has widths, norm, rise"),
        ("unet?widths=16", "at least two levels"),
        ("unet?widths=16,0", "at least two levels"),
        ("unet?norm=group", "it is one of none, batch"),
        ("smp:Unet?classes=3", "says classes, which the data and flags decide"),
        ("smp:Unet?encoder_weights=imagenet", "Pretrained weights come from a file"),
    ],
)
def test_what_cannot_be_is_a_sentence(text, message):
    with pytest.raises(SettingsError, match=message):
        Architecture.of(text)


def test_a_network_is_made_of_its_text():
    torch = pytest.importorskip("torch")
    network = Architecture.of("unet?widths=4,6,8&norm=batch").build(5, 2).eval()
    assert stride_of(network) == 4
    with torch.no_grad():
        assert network(torch.zeros(1, 5, 8, 12)).shape == (1, 2, 8, 12)


def test_a_foreign_network_without_its_package_says_how_to_get_it():
    try:
        import segmentation_models_pytorch  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(SettingsError, match="pip install segmentation-models-pytorch"):
            Architecture.of("smp:DeepLabV3Plus?encoder=resnet50").build(3, 1)
    else:
        pytest.skip("it is installed")
