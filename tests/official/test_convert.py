"""Releases become model folders: every tensor in its place, features and masks those of the released weights."""

from __future__ import annotations

import json
import os
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

import adios_zoo
from adios_zoo.cli import main
from adios_zoo.errors import ConfigError, DataError, IntegrityError
from adios_zoo.models.encoder import create_encoder
from adios_zoo.official import convert as official
from adios_zoo.official.archive import Release, open_release
from adios_zoo.official.card import FACTS, card_of_args, differences
from adios_zoo.official.checkpoint import read_state_dict
from adios_zoo.official.convert import convert, renamed
from adios_zoo.zoo import registry
from adios_zoo.zoo.load import load_model
from tests.releases import (
    ARGS,
    checkpoint_of,
    keys_of,
    release,
    small_args,
    small_state,
    tensors_of,
    with_foreign_class,
    write_run,
)

NETWORKS = ("encoder.", "mask_encoder.", "mask_head.")
AT_96 = [name for name, args in ARGS.items() if args["img_size"] == 96]
NAMES = {
    archive: f"{args['encoder']}_{'in100s' if args['img_size'] == 96 else 'in100'}_{args['method'].split('_')[0]}"
    for archive, args in ARGS.items()
}


def their_masks(x: Tensor, w: dict[str, Tensor], norm: str) -> Tensor:
    """The masks of the released weights ``w`` by the formulas of the U-Net, one operation at a time."""

    def block(x: Tensor, prefix: str) -> Tensor:
        x = F.conv2d(x, w[f"{prefix}.0.weight"], padding=1)
        scale, shift = w[f"{prefix}.1.weight"], w[f"{prefix}.1.bias"]
        if norm == "gn":
            return F.group_norm(x, 8, scale, shift).relu()
        mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), unbiased=False, keepdim=True)
        x = (x - mean) / (variance + 1e-5).sqrt()
        return (x * scale[:, None, None] + shift[:, None, None]).relu()

    blocks = 1 + max(int(key.split(".")[2]) for key in w if key.startswith("mask_encoder.down"))
    skips = []
    for i in range(blocks):
        x = block(x, f"mask_encoder.down.{i}")
        skips.append(x)
        if i < blocks - 1:
            x = x[:, :, ::2, ::2]
    shape = x.shape
    x = x.flatten(1)
    for i in (1, 3, 5):
        x = F.linear(x, w[f"mask_encoder.mlp.{i}.weight"], w[f"mask_encoder.mlp.{i}.bias"]).relu()
    x = x.reshape(shape)
    for i in range(blocks):
        x = block(torch.cat([x, skips[blocks - 1 - i]], 1), f"mask_encoder.up.{i}")
        if i < blocks - 1:
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return F.conv2d(x, w["mask_head.0.weight"], w["mask_head.0.bias"]).softmax(1)


def their_features(x: Tensor, w: dict[str, Tensor], encoder: str) -> Tensor:
    args = {"img_size": x.shape[-1]} if "vit" in encoder else {}
    name = {"vit_tiny": "vit_tiny_patch16_224"}.get(encoder, encoder)
    model = timm.create_model(name, pretrained=False, num_classes=0, **args).eval()
    model.load_state_dict({k.removeprefix("encoder."): v for k, v in w.items() if k.startswith("encoder.")})
    dense = model.forward_features(x)
    return dense[:, 0] if "vit" in encoder else dense.mean((2, 3))


def check(folder: Path, archive: str) -> None:
    args, weights = ARGS[archive], tensors_of(keys_of(archive))
    model = load_model(folder)
    torch.manual_seed(1)
    x = torch.randn(2, 3, args["img_size"], args["img_size"])
    with torch.inference_mode():
        features, masks = model(x), model.masks(x)
        assert features.std() > 0.01
        assert masks.std() > 0.01
        assert (features - their_features(x, weights, args["encoder"])).abs().max() < 1e-5
        assert (masks - their_masks(x, weights, args["unet_norm"])).abs().max() < 1e-5
        theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        assert torch.allclose(theirs(x), features, atol=1e-5)


@pytest.mark.parametrize("archive", [*AT_96, "simclr_adioss_imagenet100"])
def test_features_and_masks_of_a_release(archive: str, tmp_path: Path) -> None:
    card = convert(release(tmp_path, archive), tmp_path / "out" / "model")
    assert card.name == NAMES[archive]
    assert card.files.keys() == {"model.safetensors", "masker.safetensors", "golden.safetensors"}
    check(tmp_path / "out" / "model", archive)


@pytest.mark.parametrize("archive", ARGS)
def test_the_card_is_the_zoos(archive: str) -> None:
    zoo = adios_zoo.card(NAMES[archive])
    card = card_of_args(ARGS[archive], "x", registry.cards())
    assert card == zoo  # recipe, words and all
    without_zoo = card_of_args(ARGS[archive] | {"N": 9}, "x", registry.cards())
    assert differences(without_zoo, zoo) == ["masker"]
    assert without_zoo.source is None
    assert without_zoo.license == zoo.license
    assert without_zoo.recipe == zoo.recipe


@pytest.mark.parametrize("archive", [name for name in ARGS if "adioss" in name])
def test_every_key_of_the_large_releases_has_its_place(archive: str, tmp_path: Path) -> None:
    """By shape alone: the maskers of 224 pixels are large."""
    from adios_zoo.models.masker import Masker
    from adios_zoo.official.convert import _networks

    state = {k: torch.empty(s, dtype=getattr(torch, d), device="meta") for k, (s, d) in keys_of(archive).items()}
    card = card_of_args(ARGS[archive], "x")
    groups = _networks(state, "x")
    assert sum(map(len, groups.values())) == len(state)
    m = card.masker
    with torch.device("meta"):
        masker = Masker(m.image_size, m.slots, m.base_channels, m.norm, m.blocks)
        encoder = create_encoder(card.architecture)
    for module, group in ((masker, "masker"), (encoder, "encoder")):
        assert {k: v.shape for k, v in module.state_dict().items()} == {k: v.shape for k, v in groups[group].items()}


@pytest.mark.parametrize(
    "archive", ["simclr_adios_imagenet100s", "simsiam_adios_imagenet100s", "byol_adios_imagenet100s"]
)
def test_heads(archive: str, tmp_path: Path) -> None:
    card = convert(release(tmp_path, archive), tmp_path / "m", heads=True)
    stored = load_file(tmp_path / "m" / "heads.safetensors")
    state = tensors_of(keys_of(archive))
    assert stored.keys() == {k for k in state if k.startswith(("projector.", "predictor."))}
    assert all(torch.equal(stored[k], state[k]) for k in stored)
    assert "heads.safetensors" in card.files
    load_model(tmp_path / "m")


def test_the_folder_and_the_run_are_taken_too(tmp_path: Path) -> None:
    run = write_run(tmp_path / "unpacked" / "archive", small_args(), checkpoint_of(small_state()))
    sources = (run, run.parent, run.parents[1])
    cards = [convert(source, tmp_path / "models" / str(i)) for i, source in enumerate(sources)]
    assert cards[0] == cards[1] == cards[2]
    assert cards[0].origin == "release"
    assert cards[0].masker.slots == 2
    assert cards[0].source is None


def test_settings_of_another_code_version_are_read_leniently(tmp_path: Path) -> None:
    args = small_args(img_size=[96], new_flag={"a": [1]}, knn_k=None, lr="<not serializable>")
    for key in ("size", "mean", "std", "transform_kwargs", "gpus", "cifar", "temperature"):
        del args[key]
    run = write_run(tmp_path / "r", args, checkpoint_of(small_state()))
    card = convert(run, tmp_path / "m")
    assert card.recipe["brightness"] == 0.8
    assert "temperature" not in card.recipe


def test_preprocessing_of_the_sets() -> None:
    def facts(dataset: str, size: int) -> tuple[object, ...]:
        card = card_of_args(small_args(dataset=dataset, img_size=size), "x")
        return card.set, card.crop_pct, card.crop_mode, card.std[0]

    assert facts("imagenet100s", 96) == ("in100s", 0.375, "center", 0.228)
    assert facts("imagenet100", 224) == ("in100", 0.875, "center", 0.228)
    assert facts("stl10", 96) == ("stl10", 1.0, "squash", 0.247)


def test_a_card_that_is_given_must_agree(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", small_args(), checkpoint_of(small_state()))
    stated = card_of_args(small_args(), "x").replace(summary="Ours.", recipe={})
    card = convert(run, tmp_path / "m", card=stated)
    assert card.summary == "Ours."
    assert card.recipe["max_epochs"] == 500
    with pytest.raises(IntegrityError, match="is not the release of resnet18_in100s_byol: method is simclr there"):
        convert(run, tmp_path / "n", card=adios_zoo.card("resnet18_in100s_byol"))
    assert not (tmp_path / "n").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("encoder.conv1.weight"), "its encoder does not fit: it lacks conv1.weight"),
        (lambda s: s.pop("mask_head.0.bias"), "its masker does not fit: it lacks head.bias"),
        (lambda s: s.update({"encoder.extra": torch.ones(1)}), "no place for extra"),
        (lambda s: s.update({"mask_encoder.up.9.0.weight": torch.ones(1)}), "no place for up.9.0.weight"),
        (lambda s: s.update({"mask_encoder.head.bias": torch.ones(2)}), "no network of ADIOS has 'mask_encoder.head"),
        (lambda s: s.update({"generator.w": torch.ones(1)}), "no network of ADIOS has 'generator.w'"),
        (lambda s: s.update({"encoder.conv1.weight": torch.ones(64, 3, 3, 3)}), "64x3x3x3 instead of 64x3x7x7"),
        (lambda s: s.update({"mask_head.0.bias": torch.ones(2, dtype=torch.int64)}), "kinds of numbers have head.bias"),
        (lambda s: s["mask_head.0.bias"].fill_(float("nan")), "not finite, in head.bias"),
        (lambda s: [s.pop(k) for k in list(s) if k.startswith("mask_")], "its masker does not fit: it lacks"),
    ],
)
def test_wrong_tensors_are_named(change: object, words: str, tmp_path: Path) -> None:
    state = small_state()
    change(state)
    run = write_run(tmp_path / "r", small_args(), checkpoint_of(state))
    with pytest.raises(IntegrityError, match=words) as caught:
        convert(run, tmp_path / "out" / "m")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"encoder": "resnet34"}, "encoder in args.json must be one of resnet18"),
        ({"encoder": "poolformer_s12"}, "PoolFormer"),
        ({"encoder": ["a", "b"]}, "encoder"),
        ({"cifar": True}, "for CIFAR"),
        ({"method": "simclr"}, "method"),
        ({"method": "simclr_adios\n"}, "method"),
        ({"dataset": "custom"}, "dataset"),
        ({"N": 10**9}, "N in args.json must be a whole number from 1 to 64"),
        ({"N": True}, "N in"),
        ({"img_size": 97}, "16 divides"),
        ({"img_size": 4096, "mask_fbase": 1024}, "far larger|blocks"),
        ({"mask_fbase": 1024}, "far larger"),
        ({"mask_fbase": 12, "unet_norm": "gn"}, "multiples of 8"),
        ({"unet_norm": "bn"}, "unet_norm"),
        ({"method": "simsiam_adios", "num_blocks": 7}, "num_blocks"),
    ],
)
def test_wrong_settings_are_named(change: dict[str, object], words: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", small_args(**change), checkpoint_of(small_state()))
    with pytest.raises(adios_zoo.AdiosError, match=words) as caught:
        convert(run, tmp_path / "m")
    assert caught.value.exit_code == 1
    assert not (tmp_path / "m").exists()


def test_wrong_heads_are_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", small_args(), checkpoint_of(small_state()))
    with pytest.raises(IntegrityError, match="its projector does not fit: missing or left over are"):
        convert(run, tmp_path / "m", heads=True)
    state = small_state() | {
        "projector.0.weight": torch.ones(4, 512),
        "projector.0.bias": torch.ones(4),
        "projector.2.weight": torch.ones(3, 5),
        "projector.2.bias": torch.ones(3),
    }
    run = write_run(tmp_path / "s", small_args(), checkpoint_of(state))
    with pytest.raises(IntegrityError, match=r"2.weight has the shape \[3, 5\]"):
        convert(run, tmp_path / "m", heads=True)


def test_where_it_is_written(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", small_args(), checkpoint_of(small_state()))
    (tmp_path / "empty").mkdir()
    convert(run, tmp_path / "empty")
    assert (tmp_path / "empty" / "config.json").is_file()
    with pytest.raises(ConfigError, match="in use"):
        convert(run, tmp_path / "empty")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="in use"):
        convert(run, tmp_path / "file")
    with pytest.raises(ConfigError, match="no release"):
        convert(tmp_path / "nothing", tmp_path / "m")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "file", "r"]


def test_a_failure_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "r", small_args(), checkpoint_of(small_state()))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("adios_zoo.models.model.golden", full)
    with pytest.raises(DataError, match="disk is full"):
        convert(run, tmp_path / "m")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r"]


@pytest.mark.parametrize("heads", [False, True])
def test_no_tensor_outlives_the_folder_it_is_mapped_from(
    heads: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def reading(path: Path, *, what: str) -> dict[str, Tensor]:
        state = read_state_dict(path, what=what)
        mapped.extend(weakref.ref(tensor) for tensor in state.values())
        return state

    @contextmanager
    def opening(path: Path) -> Iterator[Release]:
        with open_release(path) as found:
            yield found
            alive.append(sum(tensor() is not None for tensor in mapped))

    monkeypatch.setattr(official, "read_state_dict", reading)
    monkeypatch.setattr(official, "open_release", opening)
    convert(release(tmp_path, "simclr_adios_imagenet100s"), tmp_path / "m", heads=heads)
    assert mapped
    assert alive == [0]


def test_a_temporary_folder_that_stays_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows deletes no file that is mapped."""
    path = release(tmp_path, "simclr_adios_imagenet100s")
    unlink = os.unlink

    def refuse(path: Any, **options: Any) -> None:
        if str(path).endswith("release.ckpt"):
            raise OSError(16, "Device or resource busy")
        unlink(path, **options)

    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        convert(path, tmp_path / "m")
    assert list((tmp_path / "tmp").rglob("release.ckpt"))


def test_classes_of_the_trainer_are_not_needed(tmp_path: Path) -> None:
    """Callbacks were pickled by class: their names are read, nothing is imported."""

    def write(kind: type) -> None:
        state = {"monitor": "val_loss", "best": torch.tensor(0.5), "self": kind()}
        write_run(tmp_path / "r", small_args(), checkpoint_of(small_state(), extra={"callbacks": {kind: state}}))

    with_foreign_class("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint", write)
    with pytest.raises(ModuleNotFoundError):
        torch.load(next((tmp_path / "r").rglob("*.ckpt")), weights_only=False)
    before = torch.serialization.get_safe_globals()
    convert(tmp_path / "r", tmp_path / "m")
    assert set(torch.serialization.get_safe_globals()) == set(before)


def test_weights_from_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
        run = write_run(tmp_path / "r", small_args(), checkpoint_of(small_state()))
    convert(run, tmp_path / "m")
    with torch.inference_mode():
        x = torch.randn(1, 3, 96, 96)
        assert (load_model(tmp_path / "m").masks(x) - their_masks(x, small_state(), "in")).abs().max() < 1e-5


def test_the_names_of_older_swins() -> None:
    with torch.device("meta"):
        now = create_encoder("swin_tiny_patch4_window7_224").state_dict()
    older = {
        k.replace("layers.1.down", "layers.0.down")
        .replace("layers.2.down", "layers.1.down")
        .replace("layers.3.down", "layers.2.down"): v
        for k, v in now.items()
    }
    older["layers.0.blocks.1.attn_mask"] = older["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(1)
    assert renamed(older, "swin_tiny_patch4_window7_224").keys() == now.keys()
    assert renamed(now, "swin_tiny_patch4_window7_224").keys() == now.keys()


def test_a_small_vision_transformer(tmp_path: Path) -> None:
    args = small_args(encoder="vit_small", img_size=32)
    keys = {
        k: (list(v.shape), "float32")
        for k, v in create_encoder("vit_small_patch16_224", img_size=32).state_dict().items()
    }
    from adios_zoo.models.masker import Masker

    masker = {
        ("mask_head.0" + k.removeprefix("head") if k.startswith("head") else f"mask_encoder.{k}"): v
        for k, v in Masker(32, 2, 8, "in").state_dict().items()
    }
    run = write_run(
        tmp_path / "r", args, checkpoint_of({f"encoder.{k}": v for k, v in tensors_of(keys).items()} | masker)
    )
    card = convert(run, tmp_path / "m")
    assert card.name == "vit_small_in100s_simclr"
    assert card.model_args == {"img_size": 32}


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "r", small_args(), checkpoint_of(small_state()))
    assert main(["convert", str(run), "-o", str(tmp_path / "m")]) == 0
    assert capsys.readouterr().out == f"resnet18_in100s_simclr: {tmp_path / 'm'}\n"
    assert main(["convert", str(run), "-o", str(tmp_path / "m")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_facts_are_fields_of_the_card() -> None:
    assert set(FACTS) <= set(json.loads(json.dumps(adios_zoo.card("resnet18_in100").to_dict())))
