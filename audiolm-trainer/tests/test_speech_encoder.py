"""Both encoders: clips of similar length run through BEATs together, which changes nothing that is heard, and no step
waits for the device."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from salmonn.frontend.features import Features, FrontEnd
from salmonn.inference.inference import SalmonnLM
from salmonn.model.beats import BEATs, BEATsConfig, PositionalConv, RelativePositionBias
from salmonn.model.speech_encoder import Encoded, SpeechEncoder, similar_lengths

WAITING = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique", "bincount", "repeat_int")
"""Operators whose result the host cannot know the size or value of without waiting for the device."""
LENGTHS = ((16_000, 90_000, 20_000, 84_000), (50_000, 50_000), (48_000,))


class Watch(TorchDispatchMode):
    """Notes operators that make the host wait, and every copy from one device to another."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[str] = []
        self.copies: list[tuple[str, bool]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = str(func)
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        # A mask as an index is looked through with nonzero, below what is seen here.
        masked = name.startswith(("aten.index.", "aten.index_put")) and any(t.dtype == torch.bool for t in tensors[1:])
        if masked or any(waiting in name for waiting in WAITING):
            self.waiting.append(name)
        if len({tensor.device for tensor in tensors if tensor.ndim}) > 1:
            self.copies.append((name, bool((kwargs or {}).get("non_blocking"))))
        return result


def noise(lengths: Sequence[int]) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    return [0.1 * rng.standard_normal(length).astype(np.float32) for length in lengths]


def released_beats(**changes: Any) -> BEATs:
    """Random weights in the released structure, narrow."""
    sizes: dict[str, Any] = {
        "input_patch_size": 16, "embed_dim": 32, "encoder_layers": 3, "encoder_embed_dim": 48,
        "encoder_ffn_embed_dim": 96, "encoder_attention_heads": 3, "conv_pos": 16, "conv_pos_groups": 4,
        "deep_norm": True, "relative_position_embedding": True, "gru_rel_pos": True, "max_distance": 800,
    }  # fmt: skip
    torch.manual_seed(0)
    return BEATs(BEATsConfig(**{**sizes, **changes})).eval()


@pytest.mark.parametrize(
    ("lengths", "groups"),
    [
        ([100, 10, 90, 9], [[0, 2], [1, 3]]),
        ([5, 5, 5], [[0, 1, 2]]),
        ([100, 74, 75], [[0, 2], [1]]),
        ([0, 16], [[1], [0]]),
    ],
)
def test_groups_hold_no_clip_much_shorter_than_their_longest(lengths: list[int], groups: list[list[int]]) -> None:
    assert similar_lengths(lengths) == groups


def test_the_device_orders_clips_as_the_host_deals_them() -> None:
    """Groups are cut from the device's order by their sizes alone, also where clips are equally long."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        lengths = (16 * rng.integers(6, 30, size=int(rng.integers(1, 70)))).tolist()
        order = torch.tensor(lengths).argsort(descending=True, stable=True).tolist()
        assert [place for group in similar_lengths(lengths) for place in group] == order


def test_grouped_clips_are_heard_as_alone(nano: SalmonnLM) -> None:
    waves = noise((16_000, 90_000, 20_000, 84_000))
    together = nano.model.encode(waves)
    for place, wave in enumerate(waves):
        alone = nano.model.encode([wave])
        count = int(alone.beats_tokens[0])
        assert int(together.beats_tokens[place]) == count
        torch.testing.assert_close(together.beats[place, :count], alone.beats[0, :count], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.whisper[place], alone.whisper[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("lengths", LENGTHS)
def test_nothing_waits_for_the_device(nano: SalmonnLM, lengths: tuple[int, ...]) -> None:
    waves = noise(lengths)
    # Filters and windows are made for the first batch.
    nano.model.encode(waves)
    with Watch() as seen, torch.no_grad():
        nano.model.embed(nano.model.encode(waves))
    assert seen.waiting == []


@pytest.mark.parametrize("lengths", LENGTHS)
def test_samples_are_copied_once_and_nothing_comes_back(nano: SalmonnLM, lengths: tuple[int, ...]) -> None:
    """On PyTorch's meta device, which holds no numbers: whatever asked it for one would fail."""
    encoder: SpeechEncoder = copy.deepcopy(nano.model.speech_encoder).to("meta")
    waves = noise(lengths)
    encoder.encode(waves)
    with Watch() as seen, torch.no_grad():
        embedded = encoder.bridge(encoder.encode(waves))
    assert (embedded.device.type, embedded.shape[0]) == ("meta", len(lengths))
    assert seen.copies == [("aten._to_copy.default", True)]


def test_the_watch_sees_what_waits_and_what_is_copied() -> None:
    values, mask = torch.arange(3), torch.tensor([True, False, True])
    with Watch() as seen:
        values.max().item()
        values[mask]
        values.to("meta")
    assert seen.waiting == ["aten._local_scalar_dense.default", "aten.index.Tensor"]
    assert seen.copies == [("aten._to_copy.default", False)]
    with pytest.raises((RuntimeError, NotImplementedError)):
        values.to("meta").tolist()


def test_a_gpu_copies_from_pinned_memory(nano: SalmonnLM, monkeypatch: pytest.MonkeyPatch) -> None:
    class LaidError(Exception):
        pass

    def lay(self: FrontEnd, waves: Any, *, pinned: bool) -> Any:
        raise LaidError(pinned)

    monkeypatch.setattr(FrontEnd, "lay", lay)
    for device, pinned in (("cuda", True), ("cpu", False)):
        with pytest.raises(LaidError, match=str(pinned)):
            nano.model.speech_encoder.front_end(noise((16_000,)), torch.device(device))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here")
@pytest.mark.parametrize("lengths", LENGTHS)
def test_a_gpu_hears_the_same_and_is_not_waited_for(nano: SalmonnLM, lengths: tuple[int, ...]) -> None:
    device = torch.device("cuda", 0)
    encoder: SpeechEncoder = copy.deepcopy(nano.model.speech_encoder).to(device)
    waves = noise(lengths)
    expected = nano.model.speech_encoder.front_end(waves, torch.device("cpu"))
    found = encoder.front_end(waves, device)
    torch.testing.assert_close(found.mel.cpu(), expected.mel, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.fbank.cpu(), expected.fbank, atol=1e-5, rtol=0)
    with torch.no_grad():
        encoder.bridge(encoder.encode(waves))
        torch.cuda.set_sync_debug_mode("error")
        try:
            encoder.bridge(encoder.encode(waves))
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_counts_may_lie_in_the_hosts_memory(nano: SalmonnLM) -> None:
    """Kept clips bring them so; what lies past a clip's tokens is no sound wherever the count lies."""
    encoded = nano.model.encode(noise((16_000, 90_000)))
    kept = Encoded(encoded.whisper, encoded.beats.clone(), torch.tensor(encoded.beats_tokens.tolist()))
    kept.beats[0, int(kept.beats_tokens[0]) :] = 7.0
    with torch.no_grad():
        assert torch.equal(nano.model.embed(kept), nano.model.embed(encoded))


@pytest.mark.parametrize("length", [1, 2, 48, 1496])
def test_biases_are_those_of_each_pair_of_places(length: int) -> None:
    bias = RelativePositionBias(buckets=320, max_distance=800, heads=2)
    table = bias(length)
    assert table.shape == (2, length, length)
    assert table.is_contiguous()
    rng = np.random.default_rng(0)
    for query, key in rng.integers(0, length, size=(50, 2)).tolist():
        size = abs(key - query)
        # T5's buckets: 80 exact distances, then 80 by their logarithm up to 800, and as many for keys that follow.
        bucket = size if size < 80 else min(159, 80 + int(math.log(size / 80) / math.log(800 / 80) * 80))
        assert torch.equal(table[:, query, key], bias.weight[bucket + 160 * (key > query)])


@pytest.mark.parametrize("gated", [True, False])
def test_beats_hears_a_padded_clip_as_alone(gated: bool) -> None:
    beats = released_beats(gru_rel_pos=gated)
    bank = torch.randn(2, 320, 128)
    with torch.no_grad():
        tokens, mask = beats(bank, torch.tensor([320, 96]))
        alone = beats(bank[1:, :96], torch.tensor([96]))[0]
    assert (~mask).sum(dim=1).tolist() == beats.count_tokens(torch.tensor([320, 96]), bins=128).tolist() == [160, 48]
    torch.testing.assert_close(tokens[1, :48], alone[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_beats_is_finite_in_half_precision_at_every_length(dtype: torch.dtype) -> None:
    exact, beats = released_beats(), released_beats().to(dtype)
    for frames in (16, 96, 112, 496, 992, 2992):
        bank = torch.randn(2, frames, 128)
        lengths = torch.tensor([frames, 16])
        with torch.no_grad():
            tokens, mask = beats(bank.to(dtype), lengths)
            expected = exact(bank, lengths)[0]
        assert tokens.dtype == dtype
        assert tokens[~mask].isfinite().all()
        assert float((tokens[~mask].float() - expected[~mask]).abs().mean()) < 0.05


def test_beats_runs_under_autocast() -> None:
    beats = released_beats()
    bank, lengths = torch.randn(2, 96, 128), torch.tensor([96, 48])
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        tokens, mask = beats(bank, lengths)
    with torch.no_grad():
        expected = beats(bank, lengths)[0]
    assert float((tokens[~mask].float() - expected[~mask]).abs().mean()) < 0.05


def test_the_positional_kernel_follows_its_weights() -> None:
    conv = PositionalConv(width=8, kernel=4, groups=2)
    x = torch.randn(1, 5, 8)
    with torch.no_grad():
        before = conv(x)
        conv.load_state_dict({**conv.state_dict(), "weight_g": 2 * conv.weight_g})
        assert not torch.equal(conv(x), before)
    weight = conv.weight_g * conv.weight_v / conv.weight_v.norm(dim=(0, 1), keepdim=True)
    assert torch.equal(conv._weight(), weight)
    conv(x).sum().backward()
    assert conv.weight_v.grad is not None
    assert conv.weight_v.grad.isfinite().all()


def test_features_say_the_lengths_to_the_host(nano: SalmonnLM) -> None:
    features: Features = nano.model.speech_encoder.front_end(noise((16_000, 90_000)), torch.device("cpu"))
    assert features.fbank_frames.tolist() == list(features.fbank_lengths)
