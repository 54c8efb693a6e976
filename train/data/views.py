"""Views of images: the random augmentation that SimCLR made standard, in batches, with parameters per image.

Resized crop (bicubic, antialiased), flip, colour jitter in random order, grey, blur, solarisation, normalisation;
the distributions are torchvision's.  Everything is tensor arithmetic over the batch, so one code serves CPU and
GPU; randomness is drawn on the CPU, so that both see the same views.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..chance import Draws, on_device_of
from ..game.blur import gaussian_blur
from ..recipe.settings import ViewSettings

_GREY = (0.2989, 0.587, 0.114)
_TRIES = 10


def draw_views(
    images: Tensor,
    size: int,
    settings: ViewSettings,
    draws: Draws,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Tensor:
    """One view of each image.

    Args:
        images: (B, 3 + N, H, W) uint8; channels past the third are masks, which are cropped and flipped alike and
            keep their values.
        size: side of the views in pixels.
        settings: the distribution.
        draws: random numbers for the B images.
        mean: per channel, of values in [0, 1].
        std: likewise.

    Returns:
        (B, 3 + N, size, size) float32, normalised; masks from 0 to 1.
    """
    boxes = crop_boxes((images.shape[-2], images.shape[-1]), settings, draws)
    flip = draws.happens(settings.flip)
    x = resized_crop(images, on_device_of(images, boxes), on_device_of(images, flip), size)
    return _recoloured(x, settings, draws, mean=mean, std=std)


def views_of_crops(
    crops: Tensor, settings: ViewSettings, draws: Draws, *, mean: tuple[float, ...], std: tuple[float, ...]
) -> Tensor:
    """What :func:`draw_views` does after the crop, for crops (B, 3 + N, S, S) uint8, resized already."""
    flip = on_device_of(crops, draws.happens(settings.flip))
    x = crops.float() / 255
    x = torch.where(flip[:, None, None, None], x.flip(-1), x)
    return _recoloured(x, settings, draws, mean=mean, std=std)


def _recoloured(
    x: Tensor, settings: ViewSettings, draws: Draws, *, mean: tuple[float, ...], std: tuple[float, ...]
) -> Tensor:
    x, masks = x[:, :3], x[:, 3:]
    x = _jitter(x, settings, draws)
    grey = on_device_of(x, draws.happens(settings.grey))
    x = torch.where(grey[:, None, None, None], to_grey(x), x)
    if settings.blur > 0:
        low, high = settings.blur_sigma
        sigma = draws.uniform(low, high)
        x = gaussian_blur(x, torch.where(draws.happens(settings.blur), sigma, 0.0), high)
    if settings.solarise > 0:
        solarise = on_device_of(x, draws.happens(settings.solarise))
        x = torch.where(solarise[:, None, None, None] & (x >= 0.5), 1 - x, x)
    centre, scale = (on_device_of(x, torch.tensor(values))[:, None, None] for values in (mean, std))
    x = (x - centre) / scale
    return torch.cat([x, masks], dim=1) if masks.shape[1] else x


def crop_boxes(image_size: tuple[int, int], settings: ViewSettings, draws: Draws) -> Tensor:
    """Crop boxes (B, 4) as top, left, height, width in pixels: area uniform, log aspect ratio uniform.

    As in torchvision the first of ten draws that fits the image is taken, else the largest central box whose
    aspect ratio is within 3/4 and 4/3.
    """
    h, w = image_size
    area = h * w * draws.uniform(settings.min_scale, settings.max_scale, _TRIES)
    ratio = draws.uniform(math.log(3 / 4), math.log(4 / 3), _TRIES).exp()
    widths, heights = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (widths >= 1) & (widths <= w) & (heights >= 1) & (heights <= h)
    first = fits.int().argmax(dim=1, keepdim=True)
    fallback_w = min(w, round(h * 4 / 3))
    fallback_h = min(h, round(w * 4 / 3))
    found = fits.any(dim=1)
    width = torch.where(found, widths.gather(1, first).squeeze(1), float(fallback_w))
    height = torch.where(found, heights.gather(1, first).squeeze(1), float(fallback_h))
    top = (draws.uniform(0, 1) * (h - height + 1)).floor()
    left = (draws.uniform(0, 1) * (w - width + 1)).floor()
    top = torch.where(found, top, (h - height) // 2)
    left = torch.where(found, left, (w - width) // 2)
    return torch.stack([top, left, height, width], dim=1)


def resized_crop(images: Tensor, boxes: Tensor, flip: Tensor, size: int) -> Tensor:
    """Crop each image to its box and resize it to ``size``, bicubic with antialiasing: (B, C, size, size) in [0, 1].

    Both axes are resampled by a matrix an image, (size, H) and (size, W), as Pillow's separable filter does.
    """
    top, left, height, width = boxes.unbind(dim=1)
    rows = _resampling(top, height, images.shape[-2], size)
    columns = _resampling(left, width, images.shape[-1], size)
    columns = torch.where(flip[:, None, None], columns.flip(1), columns)
    x = rows.unsqueeze(1) @ (images.float() / 255)
    return (x @ columns.transpose(1, 2).unsqueeze(1)).clamp(0, 1)


def _resampling(start: Tensor, length: Tensor, inputs: int, outputs: int) -> Tensor:
    """Weights (B, outputs, inputs) of Pillow's bicubic filter (a = -0.5) for one axis of a crop."""
    scale = (length / outputs)[:, None, None]
    support = scale.clamp(min=1.0)
    centre = (torch.arange(outputs, device=start.device) + 0.5)[None, :, None] * scale
    pixel = torch.arange(inputs, device=start.device)[None, None, :] + 0.5 - start[:, None, None]
    t = ((pixel - centre) / support).abs()
    near = (1.5 * t - 2.5) * t * t + 1
    far = ((-0.5 * t + 2.5) * t - 4) * t + 2
    weights = torch.where(t < 1, near, torch.where(t < 2, far, 0.0))
    inside = (pixel > 0) & (pixel < length[:, None, None])
    weights = torch.where(inside, weights, 0.0)
    return weights / weights.sum(dim=2, keepdim=True)


def to_grey(x: Tensor) -> Tensor:
    """Luma of RGB images (B, 3, H, W), in all three channels."""
    r, g, b = _GREY
    return (r * x[:, 0:1] + g * x[:, 1:2] + b * x[:, 2:3]).expand_as(x)


def _jitter(x: Tensor, s: ViewSettings, draws: Draws) -> Tensor:
    factors = [
        draws.uniform(max(0.0, 1 - s.brightness), 1 + s.brightness),
        draws.uniform(max(0.0, 1 - s.contrast), 1 + s.contrast),
        draws.uniform(max(0.0, 1 - s.saturation), 1 + s.saturation),
        draws.uniform(-s.hue, s.hue),
    ]
    strengths = (s.brightness, s.contrast, s.saturation, s.hue)
    order = draws.uniform(0, 1, len(_OPERATIONS)).argsort(dim=1)
    order[~draws.happens(s.jitter)] = -1
    for place in range(len(_OPERATIONS)):
        for k, operation in enumerate(_OPERATIONS):
            chosen = (order[:, place] == k).nonzero().squeeze(1)
            if len(chosen) and strengths[k] > 0:
                factor = on_device_of(x, factors[k][chosen])[:, None, None, None]
                chosen = on_device_of(x, chosen)
                x[chosen] = operation(x[chosen], factor)
    return x


def adjust_brightness(x: Tensor, factor: Tensor) -> Tensor:
    """Scale values by ``factor`` (B, 1, 1, 1)."""
    return (x * factor).clamp(0, 1)


def adjust_contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with the mean grey of each image."""
    mean = to_grey(x)[:, :1].mean(dim=(1, 2, 3), keepdim=True)
    return (factor * x + (1 - factor) * mean).clamp(0, 1)


def adjust_saturation(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with the grey image."""
    return (factor * x + (1 - factor) * to_grey(x)).clamp(0, 1)


def adjust_hue(x: Tensor, shift: Tensor) -> Tensor:
    """Shift the hue of HSV by ``shift`` (B, 1, 1, 1) turns."""
    value, which = x.max(dim=1)
    spread = value - x.amin(dim=1)
    safe = torch.where(spread == 0, 1.0, spread)
    r, g, b = x.unbind(dim=1)
    sixths = torch.where(which == 0, (g - b) / safe, torch.where(which == 1, (b - r) / safe + 2, (r - g) / safe + 4))
    sixths = sixths + 6 * shift.squeeze(1)
    channels = []
    for n in (5, 3, 1):
        k = (n + sixths) % 6
        channels.append(value - spread * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, dim=1)


_OPERATIONS = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
