"""The verdict follows from numbers alone: recovered scales, made by hand, without a file."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from vggnorm.identification.judge import judge
from vggnorm.identification.rounding import FLOAT32
from vggnorm.report.identification import describe_layer
from vggnorm.verdicts.identification import (
    Fault,
    FileKind,
    LayerScales,
    LayerState,
    MeansComparison,
    MeansRelation,
    Objection,
    Reason,
    Recovery,
    Trouble,
)

MIXED = (0.3, 1.7, 2.9)


def layer_of(
    scale: Sequence[float] = MIXED, norm: Sequence[float] = (1.0, 2.0, 3.0)
) -> LayerScales:
    """A layer of three filters that is exactly a rescaling."""
    ones, yes = np.ones(3), np.ones(3, dtype=bool)
    return LayerScales(
        scale=np.array(scale),
        residual=np.zeros(3),
        explained=yes,
        alike=yes,
        bias_deviation=np.zeros(3),
        bias_fits=yes,
        incoming=ones,
        link=ones,
        linked=yes,
        norm=np.array(norm),
    )


def recovery_of(**layers: LayerScales) -> Recovery:
    return Recovery(layers, FLOAT32, takes_photos=True, colours=(0, 1, 2), normalizations={})


def other(layer: LayerScales) -> LayerScales:
    """Give a layer the weights of another network."""
    no = np.zeros(3, dtype=bool)
    return replace(layer, scale=np.full(3, np.nan), residual=np.ones(3), explained=no, alike=no)


@pytest.mark.parametrize(
    ("layer", "objection"),
    [
        (layer_of((-0.3, 1.7, 2.9)), Objection(Reason.NEGATIVE, count=1)),
        (layer_of((3.7, 3.7, 3.7)), Objection(Reason.CONSTANT)),
        (layer_of((0.25, 2.0, 8.0)), Objection(Reason.POWERS_OF_TWO)),
        (layer_of(norm=(2.0, 2.0, 2.0)), Objection(Reason.EQUAL_NORMS)),
        (
            replace(layer_of(), drift=np.array([0.2, 1.2, 5.0])),
            Objection(Reason.LARGE_DRIFT, layer="a", share=2 / 3, limit=1.1),
        ),
    ],
)
def test_scales_that_are_not_mean_activations(layer: LayerScales, objection: Objection) -> None:
    verdict = judge(recovery_of(a=layer), (), None)
    assert (verdict.kind, verdict.objection) == (FileKind.RESCALED, objection)


def test_scales_that_may_be_mean_activations() -> None:
    layer = replace(layer_of(), drift=np.array([0.2, 1.0, -5.0]))
    verdict = judge(recovery_of(a=layer), (), None)
    assert (verdict.kind, verdict.objection) == (FileKind.POSSIBLY_NORMALIZED, None)
    assert verdict.intact


@pytest.mark.parametrize(
    ("relation", "kind"),
    [
        (MeansRelation.EQUAL, FileKind.NORMALIZED),
        (MeansRelation.NEARLY_EQUAL, FileKind.NORMALIZED),
        (MeansRelation.SIMILAR, FileKind.NORMALIZED),
        (MeansRelation.UNRELATED, FileKind.RESCALED),
    ],
)
def test_means_decide_if_there_are_any(relation: MeansRelation, kind: FileKind) -> None:
    comparison = MeansComparison("means", {"a": np.ones(3)}, {"a": 1.0}, 0.05, relation)
    assert judge(recovery_of(a=layer_of()), (), comparison).kind is kind


def test_half_of_the_layers_with_other_weights_are_something_else() -> None:
    layers = {"a": layer_of(), "b": other(layer_of())}
    verdict = judge(recovery_of(**layers), (), None)
    assert verdict.kind is FileKind.SOMETHING_ELSE
    assert verdict.layers["b"].state is LayerState.OTHER_WEIGHTS
    verdict = judge(recovery_of(**layers, c=layer_of()), (), None)
    assert verdict.kind is FileKind.POSSIBLY_NORMALIZED
    assert not verdict.intact


def test_most_layers_turned_are_something_else_whatever_their_scales() -> None:
    recovery = recovery_of(a=layer_of((1, 1, 1)), b=layer_of((1, 1, 1)))
    verdict = judge(recovery, ["a", "b"], None)
    assert (verdict.kind, verdict.kind_of_scales) == (FileKind.SOMETHING_ELSE, FileKind.ORIGINAL)
    verdict = judge(recovery, ["b"], None)
    assert verdict.kind is FileKind.ORIGINAL
    assert verdict.layers["b"].troubles == (Trouble(Fault.TURNED_KERNELS),)


def test_troubles_name_filters_and_channels() -> None:
    layer = replace(
        layer_of((1.5, np.nan, -2.0)),
        explained=np.array([False, True, True]),
        bias_fits=np.array([False, True, False]),
        linked=np.array([True, False, False]),
    )
    verdict = judge(recovery_of(a=layer_of(), b=layer), (), None).layers["b"]
    assert verdict.troubles == (
        Trouble(Fault.OTHER_WEIGHTS, (0,)),
        Trouble(Fault.NEGATIVE_SCALE, (2,)),
        Trouble(Fault.UNKNOWN_SCALE, (1,)),
        Trouble(Fault.BIAS_SCALE, (2,)),
        Trouble(Fault.CHANNEL_SCALE, (1, 2)),
    )
    assert describe_layer(verdict) == (
        "rescaled; filter 0 with other weights; filter 2 with the sign changed; "
        "filter 1 without weights, of unknown scale; "
        "filter 2 with a bias of another scale than the kernel; "
        "channels 1, 2 taken at another scale than the layers before give"
    )


def test_pixels_may_be_divided_by_one_number_or_by_one_for_each_channel() -> None:
    def factors(*link: float) -> tuple[float, ...]:
        layer = replace(layer_of(), link=np.array(link), linked=np.array(link) == 1)
        return judge(recovery_of(a=layer), (), None).pixel_factors

    assert factors(1, 1, 1) == ()
    assert factors(255, 255.01, 255) == (255,)
    assert factors(58.4, 57.1, 57.4) == (58.4, 57.1, 57.4)
