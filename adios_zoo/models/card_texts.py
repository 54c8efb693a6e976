"""What a model folder says of its model, written from the card: ``config.json``, and the page that the Hub shows."""

from __future__ import annotations

import json
from typing import Any

from adios_zoo.models.card import CONFIG, README, Card, MaskerFacts, onnx_encoder


def config_of(card: Card) -> dict[str, Any]:
    """``config.json`` of a model folder: timm's keys, from which timm and the Hub load, and the card beside them."""
    import timm

    known = timm.get_pretrained_cfg(card.architecture, allow_unregistered=False)
    config: dict[str, Any] = {
        "architecture": card.architecture,
        "num_classes": 0,
        "pretrained_cfg": {
            "input_size": [3, card.input_size, card.input_size],
            "fixed_input_size": bool(known.fixed_input_size) if known else False,
            "interpolation": card.interpolation,
            "crop_pct": card.crop_pct,
            "crop_mode": card.crop_mode,
            "mean": list(card.mean),
            "std": list(card.std),
            "num_classes": 0,
            "first_conv": known.first_conv if known else None,
            "classifier": known.classifier if known else None,
        },
        "adios": card.to_dict(),
    }
    if card.model_args:
        config["model_args"] = card.model_args
    return config


def readme_of(card: Card) -> str:
    """``README.md`` of a model folder: the model card that the Hub shows."""
    mean, std = ("(" + ", ".join(f"{v:g}" for v in values) + ")" for values in (card.mean, card.std))
    lines = [
        "---",
        "library_name: timm",
        f"license: {'mit' if card.license == 'MIT' else 'other'}",
        "tags: [adios, self-supervised-learning, image-feature-extraction]",
        "pipeline_tag: image-feature-extraction",
        "---",
        f"# {card.name}",
        "",
        card.summary,
        "",
        f"- Encoder: `{card.architecture}`, input {card.input_size} x {card.input_size} pixels",
        f"- Preprocessing: {card.crop_mode} crop, crop_pct {card.crop_pct:g}, {card.interpolation}, mean {mean}, "
        f"std {std}",
        f"- Masker: {_masker_in_words(card.masker)}",
        f"- Licence: {card.license}",
    ]
    if card.method != "none":
        lines.insert(-1, f"- Method: ADIOS with {card.method}, mask use: {card.mask_use}; paper: {card.paper}")
    lines += [f"- Source: {card.source}"] if card.source else []
    lines += [f"- Training, {key}: {value}" for key, value in card.training.items()]
    lines += ["", figures_table(card)] if card.figures else []
    lines += ["", precisions_table(card)] if card.precisions else []
    lines += [
        "",
        "```python",
        "import adios_zoo, timm",
        "",
        'model = adios_zoo.load_model("local-dir:THIS_FOLDER")      # encoder' + (" and masker" if card.masker else ""),
        'encoder = timm.create_model("local-dir:THIS_FOLDER", pretrained=True)',
        "```",
        "",
    ]
    return "\n".join(lines)


def _masker_in_words(m: MaskerFacts | None) -> str:
    if m is None:
        return "none, the encoder was trained without one"
    shape = f"U-Net of {m.blocks} blocks, base width {m.base_channels}, norm {m.norm}, {m.image_size} pixels"
    return f"{m.slots} masks, {shape}"


def texts_of(card: Card) -> dict[str, str]:
    """The files of a model folder that are made from its card alone, by name."""
    return {README: readme_of(card), CONFIG: json.dumps(config_of(card), indent=2) + "\n"}


def figures_table(card: Card) -> str:
    """The card's figures as a Markdown table, each beside its command."""
    rows = [f"| {f.name} | {f.value:g} {f.unit} | `{f.command}` |" for f in card.figures]
    return "\n".join(["| figure | value | command |", "|---|---|---|", *rows])


def precisions_table(card: Card) -> str:
    """What the card says of the ONNX encoders of lower precision, as a Markdown table."""
    rows = ["| ONNX encoder | made by | median cosine to fp32 | k-NN top-1 (fp32) |", "|---|---|---|---|"]
    for name, facts in card.precisions.items():
        on = f"{facts.images} held-back images" if facts.images else "crops of sample photographs"
        cosine = f"{facts.cosine:.5f} on {on}"
        cosine += "; fails its gate, written by force" if facts.forced else ""
        knn = "not measured"
        if facts.knn is not None and facts.knn_fp32 is not None:
            knn = f"{facts.knn:.2f} % ({facts.knn_fp32:.2f} %) on {facts.labelled} images"
        rows.append(f"| `{onnx_encoder(name)}` | {facts.method} | {cosine} | {knn} |")
    return "\n".join(rows)
