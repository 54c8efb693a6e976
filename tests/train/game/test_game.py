"""The game against the authors' numbers: masks, losses, gradients, three-step traces, final states."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.conftest import GOLDEN, OWN_GOLDEN
from tests.reference import Reference, method_files, ours, sampled

FILES = method_files(OWN_GOLDEN, GOLDEN)

# Zero up to round-off, because a batch norm follows: compared absolutely (see the reference's tolerances).
ROUND_OFF = {
    "grad_encoder.projector.0.bias": "byol",
    "grad_encoder.projector.3.bias": "byol",
    "grad_encoder.predictor.0.bias": "byol",
    "grad_encoder.projector.6.bias": "simsiam",
    "final.predictor.1.running_mean": "simsiam",
    "final_peak.predictor.1.running_mean": "simsiam",
}


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def reference(request: pytest.FixtureRequest) -> Reference:
    return Reference(request.param)


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30))


def check_gradients(reference: Reference, prefix: str, gradients: dict[str, Tensor]) -> None:
    expected = reference.group(prefix)
    assert expected
    for name, value in expected.items():
        found = sampled(reference.header, f"{prefix}.{name}", gradients[ours(name)])
        if ROUND_OFF.get(f"{prefix}.{name}") == reference.method:
            assert (found - value).abs().max() < 2e-5, name
        else:
            assert relative(found, value) < 1e-4, name


def gradients_of(game: torch.nn.Module) -> dict[str, Tensor]:
    return {k: p.grad if p.grad is not None else torch.zeros_like(p) for k, p in game.named_parameters()}


def test_every_method_and_mask_use_has_a_file() -> None:
    own = [Reference(path) for path in method_files(OWN_GOLDEN)]
    assert {reference.method for reference in own} == {"simclr", "byol", "simsiam"}
    assert {reference.mask_use for reference in own} == {"all", "one"}
    assert any(reference.group("final") and reference.group("final_peak") for reference in own)


def test_masks(reference: Reference) -> None:
    game = reference.game()
    found = game.masks(reference.batch(0))
    assert sorted(found) == reference.views
    for view, masks in found.items():
        name = f"masks_x{view}"
        assert (sampled(reference.header, name, masks) - reference.tensors[name]).abs().max() < 1e-5


def test_encoder_turn(reference: Reference) -> None:
    game, batch = reference.game(), reference.batch(0)
    turn = game.encoder_turn(batch, game.masks(batch), reference.index(0, 0), reference.tensors["labels"][0])
    assert turn.probe is not None
    assert float(turn.loss) == pytest.approx(float(reference.tensors["encoder_loss"]), abs=2e-5)
    assert float(turn.probe) == pytest.approx(float(reference.tensors["linear_loss"]), abs=2e-5)
    check_gradients(reference, "grad_encoder", gradients_of(game))
    assert all(p.grad is None for p in game.masker.parameters())


def test_masker_turn_by_itself(reference: Reference) -> None:
    game, batch = reference.game(), reference.batch(0)
    turn = game.masker_turn(batch, game.masks(batch), reference.index(0, 1))
    assert float(turn.objective) == pytest.approx(float(reference.tensors["mask_loss"]), abs=2e-5)
    check_gradients(reference, "grad_mask", gradients_of(game))
    assert all(p.grad is None for n, p in game.named_parameters() if not n.startswith("masker."))
    assert all(p.requires_grad for p in game.encoder.parameters())


@pytest.mark.parametrize(
    ("trace", "final", "rates", "loss_tolerance", "state_tolerance"),
    [
        ("trace", "final", "lr_epoch0", 5e-5, (2e-5, 1e-6)),
        ("trace_peak", "final_peak", "lr_peak", 2e-4, (1e-4, 1e-5)),
    ],
)
def test_steps(
    reference: Reference,
    trace: str,
    final: str,
    rates: str,
    loss_tolerance: float,
    state_tolerance: tuple[float, float],
) -> None:
    game = reference.game()
    encoder_optimiser, masker_optimiser = reference.optimisers(game, reference.header[rates])
    found: dict[str, list[float]] = {"encoder_loss": [], "linear_loss": [], "mask_loss": []}
    for number in range(reference.header["steps"]):
        batch, labels = reference.batch(number), reference.tensors["labels"][number]
        masks = game.masks(batch)
        encoder_optimiser.zero_grad()
        turn = game.encoder_turn(batch, masks, reference.index(number, 0), labels)
        encoder_optimiser.step()
        masker_optimiser.zero_grad()
        answer = game.masker_turn(batch, masks, reference.index(number, 1), turn.targets)
        masker_optimiser.step()
        if reference.method == "byol":
            game.move_momentum(float(reference.tensors[f"{trace}.tau"][number]))
        assert turn.probe is not None
        found["encoder_loss"].append(float(turn.loss))
        found["linear_loss"].append(float(turn.probe))
        found["mask_loss"].append(float(answer.objective))
    for name, values in found.items():
        assert values == pytest.approx(reference.tensors[f"{trace}.{name}"].tolist(), abs=loss_tolerance), name
    state, expected = game.state_dict(), reference.group(final)
    assert expected or final in reference.header.get("left_out", [])
    for name, value in expected.items():
        whole = f"{final}.{name}"
        check_state(reference, whole, sampled(reference.header, whole, state[ours(name)]), value, state_tolerance)


def check_state(reference: Reference, name: str, found: Tensor, value: Tensor, tolerance: tuple[float, float]) -> None:
    if name.endswith("num_batches_tracked"):
        assert int(found) == int(value), name
        return
    rel, absolute = (1e-4, 2e-5) if "running_" in name else tolerance
    if ROUND_OFF.get(name) == reference.method:
        rel = 0.0
    assert float((found - value).abs().max()) <= rel * float(value.abs().max()) + absolute, name
