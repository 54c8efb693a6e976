"""Every setting of a run, and its default, which stands nowhere else.

Reading and checking them is in ``recipe.py`` and ``checks.py``; docs/training.md lists them from these docstrings.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from adios_zoo.models.card import Norm

Method = Literal["simclr", "byol", "simsiam"]
MaskUse = Literal["all", "one"]
Term = Literal["no_mask", "symmetry", "both"]
Fill = Literal["zero", "mean", "blur", "high_pass"]
Mode = Literal["all", "clean"]
TrackerName = Literal["tensorboard", "wandb"]


@dataclass(frozen=True)
class EncoderSettings:
    """The backbone.

    Attributes:
        architecture: timm's name.
        model_args: for its constructor.
    """

    architecture: str = "resnet18"
    model_args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MaskerSettings:
    """Where the masks come from, and when the masker plays.

    Attributes:
        kind: ``learned`` by the masker's network; nobody's, ``none``, ``patches``, ``blocks``, ``boxes``, see
            :func:`adios_zoo.train.game.random_masks.random_masks`; or the data's, ``given``.
        image_size: side that the network works on, in pixels; see :class:`adios_zoo.models.masker.Masker`.
        slots: N, the number of masks; of the other kinds too.
        base_channels: width of the network's first block.
        norm: ``gn`` group norm, ``in`` instance norm, ``no`` none.
        blocks: 4, 5 or 6 an arm; ``None`` goes by the image size.
        every: the masker has a turn in every so many steps.
        freeze_after: the masker has no turn from this epoch on; ``None`` never ends its turns.
        loss_factor: of the loss in the masker's objective, ``{epoch: factor}`` with straight lines between; 1 makes
            an adversary, -1 a partner of the encoder.  Empty is 1 throughout.
        ratio: share of the image that a random mask hides.
        patch: side of the patches of ``patches`` and ``blocks``, in pixels of the view.
    """

    kind: Literal["learned", "none", "patches", "blocks", "boxes", "given"] = "learned"
    image_size: int = 64
    slots: int = 4
    base_channels: int = 32
    norm: Norm = "gn"
    blocks: int | None = None
    every: int = 1
    freeze_after: int | None = None
    loss_factor: dict[int, float] = field(default_factory=dict)
    ratio: float = 0.25
    patch: int = 8

    def plays(self, step: int, epoch: int) -> bool:
        """Whether the masker has a turn in this step."""
        frozen = self.freeze_after is not None and epoch >= self.freeze_after
        return self.kind == "learned" and not frozen and step % self.every == 0

    def loss_factor_in(self, epoch: float) -> float:
        """The factor of the loss in the masker's objective, ``epoch`` epochs from the start."""
        if not self.loss_factor:
            return 1.0
        epochs = sorted(self.loss_factor)
        return float(np.interp(epoch, epochs, [self.loss_factor[e] for e in epochs]))


@dataclass(frozen=True)
class GameSettings:
    """The rules of one game.

    Attributes:
        method: whose loss is played for.
        mask_use: ``all``, the sum over the N masks, or ``one``, a mask drawn for each image and turn.
        alpha_sparsity: weight of the sparsity penalty.
        alpha_entropy: weight of the entropy penalty.
        temperature: of the SimCLR loss.
        terms: of the SimSiam loss, see :func:`adios_zoo.train.game.losses.simsiam_loss`.
        fill: what a hole shows: ``zero``, the image's ``mean`` colour, its ``blur``, or its detail (``high_pass``).
        fill_sigma: of the Gaussian of ``blur`` and ``high_pass``, as a share of the view's side.
        clean_share: share of the images whose masked view is left whole, in both turns.
        bn_statistics: which passes feed the batch norms' running statistics, see ``batch_norm.py``.
        projector_hidden: width of the projector's hidden layers.
        projector_output: width of the projections.
        predictor_hidden: width of the predictor's hidden layer.
    """

    method: Method = "simclr"
    mask_use: MaskUse = "all"
    alpha_sparsity: float = 1.0
    alpha_entropy: float = 0.0
    temperature: float = 0.2
    terms: tuple[Term, ...] = ()
    fill: Fill = "zero"
    fill_sigma: float = 0.1
    clean_share: float = 0.0
    bn_statistics: Mode = "all"
    projector_hidden: int = 2048
    projector_output: int = 128
    predictor_hidden: int = 512


@dataclass(frozen=True)
class ViewSettings:
    """How one view is drawn; probabilities are per image.

    Attributes:
        min_scale: least share of the image's area that a crop has.
        max_scale: largest share.
        flip: probability of a horizontal flip.
        jitter: probability of the colour jitter as a whole.
        brightness: jitter strength, a factor drawn from [1 - s, 1 + s].
        contrast: likewise.
        saturation: likewise.
        hue: shift drawn from [-s, s], in turns of the colour circle, at most 0.5.
        grey: probability of turning grey.
        blur: probability of a Gaussian blur.
        blur_sigma: range of its standard deviation, in pixels of the view.
        solarise: probability of inverting values above one half.
    """

    min_scale: float = 0.08
    max_scale: float = 1.0
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    grey: float = 0.2
    blur: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarise: float = 0.0


@dataclass(frozen=True)
class OptimiserSettings:
    """SGD under LARS for both players, see :class:`adios_zoo.train.game.optim.LARS`.

    Attributes:
        lr: peak rate of encoder, projector and predictor.
        masker_lr: peak rate of the masker.
        probe_lr: peak rate of the online linear probe.
        weight_decay: for all but the probe.
        momentum: of the velocity.
        eta: LARS's trust coefficient.
        clip: bound layer-wise rates by the group's.
        exclude_1d: plain, undecayed SGD for biases and norm scales.
        warmup_epochs: length of the linear warm-up.
        warmup_start_lr: where every group starts.
        min_lr: where the cosine ends.
        schedule_by: ``epoch``, as the authors do, or ``step``, which moves the rate at every batch.
        ends_early: epochs before the end at which the cosine of all but the masker ends; past it their rates climb
            again along the cosine (10 in the authors' BYOL runs).
        byol_tau: BYOL's first and last momentum.
    """

    lr: float = 0.1
    masker_lr: float = 0.05
    probe_lr: float = 0.1
    weight_decay: float = 1e-4
    momentum: float = 0.9
    eta: float = 0.02
    clip: bool = True
    exclude_1d: bool = True
    warmup_epochs: int = 10
    warmup_start_lr: float = 0.003
    min_lr: float = 0.0
    schedule_by: Literal["epoch", "step"] = "epoch"
    ends_early: int = 0
    byol_tau: tuple[float, float] = (0.99, 1.0)


@dataclass(frozen=True)
class ObserveSettings:
    """What of a run is shown while it trains; none of it changes what the run computes.

    An interval is in epochs, 0 for never, ``None`` for about twenty times a run.  What has one is looked at before
    the first and after the last epoch in any case.

    Attributes:
        pictures_every: interval between mask pictures.
        pictures: images that they show.
        knn_every: interval between measurements of k-NN accuracy, where the images have labels.
        gallery: training images that vote.
        queries: images that are judged.
        k: neighbours that vote.
        trackers: ``tensorboard``, ``wandb``: who is told of the log beside its file.
    """

    pictures_every: int | None = None
    pictures: int = 8
    knn_every: int | None = None
    gallery: int = 2000
    queries: int = 500
    k: int = 20
    trackers: tuple[TrackerName, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be looked at."""
        for name in ("pictures_every", "knn_every"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name} must be 0 for never, or a number of epochs.")
        for name in ("pictures", "gallery", "queries", "k"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; an interval of 0 turns it off.")


@dataclass(frozen=True)
class WatchSettings:
    """When a run is stopped; a limit counts from the end of the warm-up, in as many log records in a row.

    Attributes:
        min_deviation: embeddings have collapsed below this deviation (1: spread evenly, 0: all the same).
        max_share: one slot owns everything above this share of all pixels; 1 never.
        max_mask_entropy: the slots share every pixel evenly above this (1 is reached exactly then); 1 never.
        patience: log records in a row.
    """

    min_deviation: float = 0.02
    max_share: float = 0.99
    max_mask_entropy: float = 0.9999
    patience: int = 10


@dataclass(frozen=True)
class Recipe:
    """One pretraining run.

    Attributes:
        set: short name of the data set, for the card.
        epochs: passes over the data.
        batch_size: images a batch, which all processes share.
        accumulate: batches a step, whose gradients are averaged before the update.
        image_size: side of the views and of the finished model's input, in pixels.
        sizes: views of another size from an epoch on, ``{epoch: pixels}``: small ones first save time.
        images: use the first so many of the data; ``None`` for all.  For a stream, how many make an epoch.
        in_memory: keep all images decoded in memory, at the size of the first; ``auto`` does so if they are small
            (128 pixels at most) and take 8 GiB at most.
        shuffle_buffer: images of a stream among which the next one is drawn.
        max_bad_share: stop if a larger share of the images cannot be read.
        precision: of the networks, ``fp32`` or ``bf16`` (mixed); ``auto`` is bf16 on GPUs that have it.
        seed: of everything random.
        start: a model whose weights encoder and masker start from, see :func:`adios_zoo.load_model`.
        probe: train an online linear probe when the data have labels (the encoder never sees them).
        mean: of pixel values in [0, 1], per channel.
        std: likewise.
        checkpoint_minutes: between checkpoints within an epoch.
    """

    set: str = "custom"
    epochs: int = 100
    batch_size: int = 128
    accumulate: int = 1
    image_size: int = 64
    sizes: dict[int, int] = field(default_factory=dict)
    images: int | None = None
    in_memory: Literal["auto", "yes", "no"] = "auto"
    shuffle_buffer: int = 1000
    max_bad_share: float = 0.01
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = 0
    start: str | None = None
    probe: bool = False
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.228, 0.224, 0.225)
    checkpoint_minutes: float = 10.0
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    masker: MaskerSettings = field(default_factory=MaskerSettings)
    game: GameSettings = field(default_factory=GameSettings)
    view1: ViewSettings = field(default_factory=ViewSettings)
    view2: ViewSettings = field(default_factory=ViewSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    observe: ObserveSettings = field(default_factory=ObserveSettings)
    watch: WatchSettings = field(default_factory=WatchSettings)

    @property
    def views(self) -> dict[int, ViewSettings]:
        """How each view is drawn, by number."""
        return {1: self.view1, 2: self.view2}

    @property
    def drawn_masks(self) -> int:
        """How many masks an image has where the masker makes none."""
        return self.masker.slots if self.game.mask_use == "all" and self.masker.kind != "none" else 1

    def size_in(self, epoch: int) -> int:
        """Side of the views in ``epoch``, in pixels."""
        started = [e for e in self.sizes if e <= epoch]
        return self.sizes[max(started)] if started else self.image_size

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as JSON and YAML write it."""
        return dataclasses.asdict(self)
