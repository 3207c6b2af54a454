"""Composition: encoder features in their places, in values and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from ming_core.modalities import AUDIO, IMAGE, TEXT
from ming_core.model.encoder import Features, by_modality
from ming_core.model.omni import Omni, OmniBatch
from ming_core.model.transformer import Backbone

Make = Callable[[dict[str, Any]], Backbone]
TinyLlm = Callable[[str], dict[str, Any]]
T, I, A = TEXT, IMAGE, AUDIO
MODALITY = torch.tensor([[T, I, I, T, A, T], [A, A, T, T, I, T]])


class Linear(nn.Linear):
    """The least encoder: one token per row of `x`."""

    def forward(self, features: Features) -> torch.Tensor:  # type: ignore[override]
        return super().forward(features.tensors["x"])


def features(modality: str, tokens: int, grid: bool = False) -> Features:
    place = torch.tensor([[1, 2, 2 * tokens]]) if grid else None
    return Features(modality, {"x": torch.randn(tokens, 5)}, place, [tokens])


@pytest.fixture
def omni(make_backbone: Make, tiny_llm: TinyLlm) -> Omni:
    encoders: dict[str, nn.Module] = {"image": Linear(5, 32), "audio": Linear(5, 32)}
    return Omni(make_backbone(tiny_llm("lite-1.5")), encoders)


def batch(*inputs: Features) -> OmniBatch:
    ids = torch.randint(48, MODALITY.shape)
    positions = torch.arange(6).expand(3, 2, -1)
    return OmniBatch(ids, positions, MODALITY, features=inputs)


def test_features_fill_their_placeholders_in_reading_order(omni: Omni) -> None:
    image, audio = features("image", 3), features("audio", 3)
    made = batch(audio, image)  # the order of modalities does not matter
    embeds = omni.embed(made)
    for name, modality, given in (("image", IMAGE, image), ("audio", AUDIO, audio)):
        expected = omni.encoders[name](given)
        assert torch.equal(embeds[modality == MODALITY], expected)
    words = omni.backbone.embed(made.input_ids)
    assert torch.equal(embeds[MODALITY == TEXT], words[MODALITY == TEXT])


def test_placeholders_without_features_keep_their_word_embedding(omni: Omni) -> None:
    made = batch(features("image", 3))
    embeds = omni.embed(made)
    words = omni.backbone.embed(made.input_ids)
    assert torch.equal(embeds[MODALITY != IMAGE], words[MODALITY != IMAGE])


def test_gradients_flow_into_encoders_and_not_into_replaced_words(omni: Omni) -> None:
    made = batch(features("image", 3), features("audio", 3))
    made.input_ids[:] = torch.arange(12).view(2, 6)
    omni(made).hidden.square().sum().backward()
    for encoder in omni.encoders.values():
        assert isinstance(encoder, Linear)
        assert encoder.weight.grad is not None
        assert encoder.weight.grad.abs().max() > 0
    words = omni.backbone.word_embeddings.weight.grad
    assert words is not None
    changed = words[:12].abs().amax(dim=1) > 0
    assert torch.equal(changed.view(2, 6), MODALITY == TEXT)


@pytest.mark.parametrize("tokens", [2, 4])
def test_a_wrong_number_of_features_is_refused(omni: Omni, tokens: int) -> None:
    sentence = f"{tokens} image features for 3 placeholder tokens"
    with pytest.raises(ValueError, match=sentence):
        omni.embed(batch(features("image", tokens)))


def test_the_batch_reaches_the_backbone_whole(omni: Omni) -> None:
    made = batch(features("image", 3), features("audio", 3))
    segments = torch.tensor([[0, 0, 0, 1, 1, 1], [-1, 0, 0, 0, 0, 0]])
    made = OmniBatch(**{**vars(made), "segment_ids": segments})
    with torch.no_grad():
        expected = omni.backbone(
            omni.embed(made), made.position_ids, modality_ids=MODALITY, segment_ids=segments
        )
        assert torch.equal(omni(made).hidden, expected.hidden)
        assert torch.equal(omni(made).routing[0].index, expected.routing[0].index)


def test_moving_casts_floating_point_only(omni: Omni) -> None:
    made = batch(features("image", 3, grid=True), features("audio", 3)).to("cpu", torch.bfloat16)
    assert made.input_ids.dtype == made.position_ids.dtype == torch.int64
    assert made.segment_ids is None
    image, audio = made.features
    assert image.tensors["x"].dtype == audio.tensors["x"].dtype == torch.bfloat16
    assert image.grid is not None
    assert image.grid.dtype == torch.int64
    assert audio.grid is None
    assert omni.to(torch.bfloat16)(made).hidden.dtype == torch.bfloat16


def test_inputs_of_many_media_join_per_modality() -> None:
    parts = [features("image", 2, True), features("audio", 3), features("image", 1, True)]
    image, audio = by_modality(parts)
    assert (image.modality, audio.modality) == ("image", "audio")
    assert image.tokens == [2, 1]
    assert torch.equal(
        image.tensors["x"], torch.cat([parts[0].tensors["x"], parts[2].tensors["x"]])
    )
    assert image.grid is not None
    assert image.grid.tolist() == [[1, 2, 4], [1, 2, 2]]
    assert audio.grid is None
    assert by_modality([]) == []
