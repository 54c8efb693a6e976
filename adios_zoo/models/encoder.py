"""The encoder: a timm backbone without classifier, whose state dict is timm's own, bare.

timm's modules already have the calls of the public contract: ``encoder(x)`` pooled features (B, D),
``forward_features`` the dense map, ``forward_intermediates`` the intermediate ones.
"""

from __future__ import annotations

import difflib
from typing import Any, cast

from torch import nn

from adios_zoo.errors import ConfigError


def create_encoder(architecture: str, **model_args: Any) -> nn.Module:
    """A randomly initialised timm backbone that maps (B, 3, H, W) to pooled features (B, D).

    Args:
        architecture: a name that ``timm.list_models()`` knows, such as ``resnet18``.
        model_args: passed to the backbone's constructor, such as ``img_size`` for a ViT.

    Raises:
        ConfigError: for a name that timm does not know, or arguments that the backbone does not take.
    """
    import timm

    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "; timm.list_models() names them all."
        raise ConfigError(f"timm has no architecture named {architecture!r}{hint}")
    try:
        encoder: nn.Module = timm.create_model(architecture, pretrained=False, num_classes=0, **model_args)
    except TypeError as error:
        raise ConfigError(f"timm's {architecture} does not take these model_args: {error}.") from error
    return encoder


def feature_width(encoder: nn.Module) -> int:
    """D, the width of the encoder's pooled features."""
    # Backbones with a convolution or linear head before the classifier pool to another width than num_features.
    return int(cast("Any", getattr(encoder, "head_hidden_size", None) or encoder.num_features))
