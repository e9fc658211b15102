"""The U-Net: its shapes, what it costs, and that a window says what the whole image says."""

import pytest

torch = pytest.importorskip("torch")

from models.unet import UNet, parameters, work_per_pixel  # noqa: E402


@pytest.mark.parametrize(("widths", "stride"), [((4, 8), 2), ((4, 8, 8), 4), ((4, 6, 8, 8), 8)])
@pytest.mark.parametrize(("bands", "classes"), [(1, 1), (3, 3), (5, 2)])
@pytest.mark.parametrize(("norm", "rise"), [("none", "transposed"), ("batch", "nearest"), ("batch", "transposed")])
def test_the_answer_has_the_sides_of_the_image_and_a_channel_for_each_class(widths, stride, bands, classes, norm, rise):
    network = UNet(bands, classes, widths, norm, rise).eval()
    assert network.stride == stride
    with torch.no_grad():
        answer = network(torch.zeros(2, bands, 3 * stride, 5 * stride))
    assert answer.shape == (2, classes, 3 * stride, 5 * stride)


def test_one_level_is_refused_with_the_number():
    with pytest.raises(ValueError, match="1 widths"):
        UNet(3, 2, (8,))


def test_the_article_s_network_has_the_parameters_of_its_keras_definition():
    """Keras counts a convolution's kernel and one bias for each filter, a transposed one's alike."""

    def convolution(before, after, side):
        return before * after * side * side + after

    down = [
        *(convolution(3, 64, 3), convolution(64, 64, 3)),
        *(convolution(64, 128, 3), convolution(128, 128, 3)),
        *(convolution(128, 256, 3), convolution(256, 256, 3)),
    ]
    up = [
        *(convolution(256, 128, 2), convolution(256, 128, 3), convolution(128, 128, 3)),
        *(convolution(128, 64, 2), convolution(128, 64, 3), convolution(64, 64, 3)),
    ]
    assert sum(down) + sum(up) + convolution(64, 1, 1) == 1_862_849  # what Keras prints as its total
    assert parameters(UNet(3, 1)) == 1_862_849


def test_the_article_s_network_has_its_layers_in_its_order():
    network = UNet(3, 1)
    names = {torch.nn.Conv2d: "convolution", torch.nn.ConvTranspose2d: "transposed", torch.nn.MaxPool2d: "pool"}
    seen = []
    for layer in network.modules():
        if name := names.get(type(layer)):
            layer.register_forward_hook(
                lambda layer, inputs, answer, name=name: seen.append((name, inputs[0].shape[1], answer.shape[1]))
            )
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 1, 64, 64)
    assert seen == [
        *(("convolution", 3, 64), ("convolution", 64, 64), ("pool", 64, 64)),
        *(("convolution", 64, 128), ("convolution", 128, 128), ("pool", 128, 128)),
        *(("convolution", 128, 256), ("convolution", 256, 256)),
        *(("transposed", 256, 128), ("convolution", 256, 128), ("convolution", 128, 128)),
        *(("transposed", 128, 64), ("convolution", 128, 64), ("convolution", 64, 64)),
        ("convolution", 64, 1),
    ]


def test_parameters_and_work_are_those_counted_by_hand():
    network = UNet(3, 2, (4, 8), "batch", "nearest")
    fine, coarse = 3 * 4 * 9 + 4 * 4 * 9, 4 * 8 * 9 + 8 * 8 * 9
    back = 8 * 4 * 9 + 4 * 4 * 9
    norms = 2 * (4 + 4 + 8 + 8 + 4 + 4)
    assert parameters(network) == fine + coarse + (8 * 4 + 4) + back + norms + (4 * 2 + 2)
    assert work_per_pixel(network) == fine + (coarse + 8 * 4) / 4 + back + 4 * 2
    transposed = UNet(3, 2, (4, 8), "batch")
    assert parameters(transposed) == parameters(network) + 3 * 8 * 4
    assert work_per_pixel(transposed) == fine + coarse / 4 + 8 * 4 + back + 4 * 2


@pytest.mark.parametrize("rise", ["transposed", "nearest"])
def test_windows_at_multiples_of_the_stride_say_what_the_whole_image_says(rise):
    torch.manual_seed(1)
    network = UNet(2, 3, (4, 6, 8), rise=rise).eval()
    image = torch.rand(1, 2, 160, 160)
    margin, top, left, core = 32, 40, 44, 48
    with torch.no_grad():
        whole = network(image)
        part = network(image[..., top - margin : top + core + margin, left - margin : left + core + margin])
    inner = part[..., margin:-margin, margin:-margin]
    torch.testing.assert_close(inner, whole[..., top : top + core, left : left + core], atol=1e-5, rtol=0)
