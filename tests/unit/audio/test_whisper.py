"""The Whisper tower: against transformers, packed against one by one, whatever lies beside."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ming_audio.config import WhisperConfig
from ming_audio.whisper import WhisperTower

CONFIG = WhisperConfig(n_mels=16, n_ctx=64, n_state=32, n_head=4, n_layer=3)
LENGTHS = [37, 1, 50, 50, 2, 128]
RENAMED = (
    ("blocks.", "layers."),
    ("attn.query", "self_attn.q_proj"),
    ("attn.key", "self_attn.k_proj"),
    ("attn.value", "self_attn.v_proj"),
    ("attn.out", "self_attn.out_proj"),
    ("attn_ln", "self_attn_layer_norm"),
    ("mlp.0", "fc1"),
    ("mlp.2", "fc2"),
    ("mlp_ln", "final_layer_norm"),
    ("ln_post", "layer_norm"),
    ("positional_embedding", "embed_positions.weight"),
)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def sounds(lengths: list[int] = LENGTHS) -> Tensor:
    return torch.randn(sum(lengths), CONFIG.n_mels)


def halves(lengths: list[int]) -> list[int]:
    return [CONFIG.hidden(length) for length in lengths]


def gradients(tower: WhisperTower) -> dict[str, Tensor]:
    found = {k: p.grad.clone() for k, p in tower.named_parameters() if p.grad is not None}
    tower.zero_grad()
    return found


def test_equals_the_layers_of_transformers() -> None:
    from transformers import WhisperConfig as TheirConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    theirs = WhisperEncoder(
        TheirConfig(
            num_mel_bins=CONFIG.n_mels,
            d_model=CONFIG.n_state,
            encoder_layers=CONFIG.n_layer,
            encoder_attention_heads=CONFIG.n_head,
            encoder_ffn_dim=4 * CONFIG.n_state,
            max_source_positions=CONFIG.n_ctx,
        )
    ).eval()
    tower = WhisperTower(CONFIG)
    state = {}
    for name, value in tower.state_dict().items():
        for ours, other in RENAMED:
            name = name.replace(ours, other)
        state[name] = value
    theirs.load_state_dict(state, strict=True)
    mel = sounds([128])
    with torch.no_grad():
        # The only length that it takes.
        expected = theirs(mel.T[None]).last_hidden_state[0]
        torch.testing.assert_close(tower(mel, [128]), expected, rtol=1e-5, atol=1e-5)


def test_the_table_of_positions_is_that_of_whisper() -> None:
    table = WhisperTower(CONFIG).positional_embedding
    assert table.shape == (64, 32)
    assert table[0].tolist() == [0.0] * 16 + [1.0] * 16
    angle = torch.tensor(5 * 10_000 ** (-3 / 15))  # position 5, the fourth of 16 frequencies
    torch.testing.assert_close(table[5, [3, 19]], torch.stack((angle.sin(), angle.cos())))


def test_packed_equals_one_by_one_in_values_and_gradients() -> None:
    tower = WhisperTower(CONFIG)
    mel = sounds()
    weight = torch.randn(sum(halves(LENGTHS)), CONFIG.n_state)

    packed = tower(mel, LENGTHS)
    (packed * weight).sum().backward()
    of_packed = gradients(tower)

    parts = zip(mel.split(LENGTHS), LENGTHS, strict=True)
    single = torch.cat([tower(part, [length]) for part, length in parts])
    (single * weight).sum().backward()
    torch.testing.assert_close(packed, single, rtol=1e-5, atol=1e-5)
    of_single = gradients(tower)
    assert of_packed.keys() == {name for name, _ in tower.named_parameters()}
    for name, gradient in of_packed.items():
        torch.testing.assert_close(gradient, of_single[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_any_mix_of_lengths_equals_one_by_one(seed: int) -> None:
    torch.manual_seed(seed)
    lengths = torch.randint(1, 129, (int(torch.randint(1, 9, ())),)).tolist()
    tower, mel = WhisperTower(CONFIG), sounds(lengths)
    with torch.no_grad():
        single = [tower(part, [len(part)]) for part in mel.split(lengths)]
        torch.testing.assert_close(tower(mel, lengths), torch.cat(single), rtol=1e-5, atol=1e-5)


def test_a_masked_padded_batch_equals_the_packed_one() -> None:
    """The obvious way to batch: zeros behind each sound, and a mask that hides them."""
    tower, mel = WhisperTower(CONFIG), sounds()
    states = halves(LENGTHS)
    padded = torch.nn.utils.rnn.pad_sequence(list(mel.split(LENGTHS)), True)
    seen = torch.arange(padded.shape[1]) < torch.tensor(LENGTHS)[:, None]
    kept = torch.arange(max(states)) < torch.tensor(states)[:, None]
    with torch.no_grad():
        x = F.gelu(tower.conv1(padded.mT)) * seen[:, None]
        x = F.gelu(tower.conv2(x)).mT + tower.positional_embedding[: max(states)]
        for block in tower.blocks:
            attn = block.attn  # type: ignore[union-attr]
            y = block.attn_ln(x)  # type: ignore[operator]
            q, k, v = (
                layer(y).unflatten(-1, (CONFIG.n_head, -1)).transpose(1, 2)  # type: ignore[operator]
                for layer in (attn.query, attn.key, attn.value)  # type: ignore[union-attr]
            )
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=kept[:, None, None])
            x = x + attn.out(y.transpose(1, 2).flatten(2))  # type: ignore[union-attr]
            x = x + block.mlp(block.mlp_ln(x))  # type: ignore[operator]
        torch.testing.assert_close(
            tower(mel, LENGTHS), tower.ln_post(x)[kept], rtol=1e-5, atol=1e-5
        )


def test_a_sound_is_deaf_to_the_others_in_its_batch() -> None:
    tower, mel = WhisperTower(CONFIG), sounds()
    changed = mel.clone()
    changed[:37] += 1
    with torch.no_grad():
        before, after = tower(mel, LENGTHS), tower(changed, LENGTHS)
    assert not torch.allclose(before[:19], after[:19], atol=1e-3)
    assert torch.equal(before[19:], after[19:])


def test_tables_cached_under_inference_mode_serve_training() -> None:
    tower, lengths = WhisperTower(CONFIG), [7, 31]  # seen by no other test
    mel = sounds(lengths)
    with torch.inference_mode():
        expected = tower(mel, lengths)
    actual = tower(mel, lengths)
    actual.sum().backward()
    torch.testing.assert_close(actual, expected.clone())


def test_bfloat16_stays_close_and_keeps_its_dtype() -> None:
    tower, mel = WhisperTower(CONFIG), sounds()
    with torch.no_grad():
        expected = tower(mel, LENGTHS)
        actual = tower.bfloat16()(mel.bfloat16(), LENGTHS)
    assert actual.dtype == torch.bfloat16
    assert F.cosine_similarity(actual.float(), expected).min() > 0.999


def test_more_frames_than_positions_are_refused() -> None:
    with pytest.raises(ValueError, match="65 frames, and positions for 64"):
        WhisperTower(CONFIG)(sounds([129]), [129])


def test_the_encoders_need_neither_transformers_nor_torchaudio() -> None:
    code = (
        "import sys; import ming_audio.plugin; print('torch' in sys.modules); "
        "import ming_audio.encoder; "
        "print({'transformers', 'torchaudio', 'soundfile', 'av', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["False", "set()"]
