"""The U-Net: its shapes, what it costs, and that a window says what the whole image says."""

import pytest

torch = pytest.importorskip("torch")

from models.unet import UNet, parameters, work_per_pixel  # noqa: E402


@pytest.mark.parametrize(("widths", "stride"), [((4, 8), 2), ((4, 8, 8), 4), ((4, 6, 8, 8), 8)])
@pytest.mark.parametrize(("bands", "classes"), [(1, 1), (3, 3), (5, 2)])
def test_the_answer_has_the_sides_of_the_image_and_a_channel_for_each_class(widths, stride, bands, classes):
    network = UNet(bands, classes, widths).eval()
    assert network.stride == stride
    with torch.no_grad():
        answer = network(torch.zeros(2, bands, 3 * stride, 5 * stride))
    assert answer.shape == (2, classes, 3 * stride, 5 * stride)


def test_one_level_is_refused_with_the_number():
    with pytest.raises(ValueError, match="1 widths"):
        UNet(3, 2, (8,))


def test_parameters_and_work_are_those_counted_by_hand():
    network = UNet(3, 2, (4, 8))
    fine, coarse = 3 * 4 * 9 + 4 * 4 * 9, 4 * 8 * 9 + 8 * 8 * 9
    back = 8 * 4 * 9 + 4 * 4 * 9
    norms = 2 * (4 + 4 + 8 + 8 + 4 + 4)
    assert parameters(network) == fine + coarse + (8 * 4 + 4) + back + norms + (4 * 2 + 2)
    assert work_per_pixel(network) == fine + (coarse + 8 * 4) / 4 + back + 4 * 2


def test_windows_at_multiples_of_the_stride_say_what_the_whole_image_says():
    torch.manual_seed(1)
    network = UNet(2, 3, (4, 6, 8)).eval()
    image = torch.rand(1, 2, 160, 160)
    margin, top, left, core = 32, 40, 44, 48
    with torch.no_grad():
        whole = network(image)
        part = network(image[..., top - margin : top + core + margin, left - margin : left + core + margin])
    inner = part[..., margin:-margin, margin:-margin]
    torch.testing.assert_close(inner, whole[..., top : top + core, left : left + core], atol=1e-5, rtol=0)
