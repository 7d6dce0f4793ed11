"""Features are those of transformers' extractor and of Kaldi, alone and in any batch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import WhisperFeatureExtractor

from salmonn.frontend.fbank import FRAME_LENGTH, FRAME_SHIFT, fbank, mel_filters, povey_window
from salmonn.frontend.features import Features, FrontEnd
from salmonn.frontend.framing import CPU_FRAMES, frame_blocks
from salmonn.frontend.packed_waves import MelWindow

RATE = 16_000
CPU = torch.device("cpu")
SECONDS = (0.1, 1.0, 7.3, 29.99, 30.0, 35.0)
Wave = NDArray[np.float32]


def noise(samples: int, level: float = 0.1, seed: int = 0) -> Wave:
    return (level * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def tone(samples: int) -> Wave:
    """Quiet bins beside a loud one: what is cut at eight decades below the peak."""
    return (0.9 * np.sin(np.arange(samples) / 6)).astype(np.float32)


def extractors_mel(extractor: WhisperFeatureExtractor, waves: list[Wave]) -> torch.Tensor:
    """What transformers computes of clips that are cut to its window and at least a second long."""
    clips = [np.pad(wave[: extractor.n_samples], (0, max(0, RATE - wave.size))) for wave in waves]
    mel: torch.Tensor = extractor(
        clips, sampling_rate=RATE, return_tensors="pt", padding="max_length", device="cpu"
    ).input_features
    return mel


def kaldi_in_float64(wave: Wave) -> NDArray[np.float64]:
    """The filter bank of one clip, frame by frame in NumPy."""
    rows = []
    for start in range(0, wave.size - FRAME_LENGTH + 1, FRAME_SHIFT):
        frame = wave[start : start + FRAME_LENGTH].astype(np.float64) * 2**15
        frame = frame - frame.mean()
        frame = (frame - 0.97 * np.concatenate([frame[:1], frame[:-1]])) * povey_window(CPU).numpy()
        power = np.abs(np.fft.rfft(frame, 512)) ** 2
        rows.append(np.log(np.maximum(power @ mel_filters(CPU).numpy(), 2.0**-23)))
    return (np.array(rows) - 15.41663) / (2 * 6.55582)


@pytest.fixture(scope="module")
def front_end() -> FrontEnd:
    return FrontEnd(WhisperFeatureExtractor(), patch_frames=16)


@pytest.mark.parametrize("bins", [80, 128])
@pytest.mark.parametrize("chunk", [30, 1, 5])
def test_log_mel_is_that_of_transformers(bins: int, chunk: int) -> None:
    extractor = WhisperFeatureExtractor(feature_size=bins, chunk_length=chunk)
    front_end = FrontEnd(extractor, patch_frames=16)
    full = chunk * RATE
    batches = [
        [noise(int(RATE * seconds)) for seconds in SECONDS],
        [noise(full - short) for short in (1, 39, 40, 41, 199, 200, 201, 360)],
        [np.zeros(3 * RATE, dtype=np.float32), np.zeros(full, dtype=np.float32)],
        [noise(50_000, level=30.0), tone(77_777), noise(full, level=1e-4), np.zeros(0, dtype=np.float32)],
    ]
    for waves in batches:
        mel = front_end(waves, CPU).mel
        assert (mel.dtype, mel.shape) == (torch.float32, (len(waves), bins, full // 160))
        torch.testing.assert_close(mel, extractors_mel(extractor, waves), atol=1e-6, rtol=0)


def test_other_windows_hops_and_padding_are_those_of_transformers() -> None:
    for changes in ({"n_fft": 512}, {"hop_length": 200}, {"n_fft": 401, "hop_length": 128}, {"padding_value": 0.02}):
        extractor = WhisperFeatureExtractor(chunk_length=3, **changes)
        waves = [noise(int(RATE * seconds)) for seconds in (0.5, 1.3, 2.99, 3.0)]
        mel = FrontEnd(extractor, patch_frames=16)(waves, CPU).mel
        torch.testing.assert_close(mel, extractors_mel(extractor, waves), atol=1e-5, rtol=0)
        banks = FrontEnd(extractor, patch_frames=16)(waves, CPU).fbank
        assert torch.equal(banks[3], fbank(torch.from_numpy(waves[3]))[:288])


def test_a_dithered_extractor_is_dithered_here_and_the_filter_bank_is_not(front_end: FrontEnd) -> None:
    extractor = WhisperFeatureExtractor(dither=1e-3)
    torch.manual_seed(0)
    features = FrontEnd(extractor, patch_frames=16)([noise(RATE)], CPU)
    theirs = extractors_mel(extractor, [noise(RATE)])
    assert features.mel[0, :, 200:].std() > 0.01
    assert float(features.mel.mean()) == pytest.approx(float(theirs.mean()), abs=1e-3)
    assert torch.equal(features.fbank, front_end([noise(RATE)], CPU).fbank)


def test_the_filter_bank_is_kaldis_and_the_same_alone_as_in_a_batch(front_end: FrontEnd) -> None:
    waves = [noise(int(RATE * seconds), seed=place) for place, seconds in enumerate((1.0, 7.3, 0.4, 4.01, 30.0))]
    features = front_end(waves, CPU)
    assert features.fbank_frames.tolist() == list(features.fbank_lengths) == [96, 720, 96, 384, 2992]
    for place, (wave, frames) in enumerate(zip(waves, features.fbank_lengths, strict=True)):
        clip = np.pad(wave, (0, max(0, RATE - wave.size)))
        own = features.fbank[place, :frames]
        assert torch.equal(own, fbank(torch.from_numpy(clip))[:frames])
        assert float((own.double() - torch.from_numpy(kaldi_in_float64(clip)[:frames])).abs().max()) <= 1e-6
        assert not features.fbank[place, frames:].any()


@pytest.mark.parametrize("size", [1, 64])
def test_a_clip_has_the_same_features_in_any_batch(front_end: FrontEnd, size: int) -> None:
    clip = noise(50_000)
    alone = front_end([clip], CPU)
    others = [noise(RATE + 311 * place, seed=place) for place in range(size - 1)]
    features = front_end([*others, clip], CPU)
    torch.testing.assert_close(features.mel[-1], alone.mel[0], atol=1e-6, rtol=0)
    assert torch.equal(features.fbank[-1, : alone.fbank.shape[1]], alone.fbank[0])


@pytest.mark.parametrize(
    "other",
    [
        lambda wave: wave.astype(np.float64),
        lambda wave: np.repeat(wave, 2)[::2],
        lambda wave: wave[::-1].copy()[::-1],
        lambda wave: np.stack([wave, wave], axis=1)[:, 0],
    ],
    ids=["float64", "every-second", "backwards", "column"],
)
def test_how_samples_lie_in_memory_does_not_matter(front_end: FrontEnd, other: Callable[[Wave], Any]) -> None:
    wave = noise(30_000)
    expected, features = front_end([wave], CPU), front_end([other(wave)], CPU)
    assert torch.equal(features.mel, expected.mel)
    assert torch.equal(features.fbank, expected.fbank)


def test_whole_numbers_are_taken_as_they_are(front_end: FrontEnd) -> None:
    whole = np.arange(20_000, dtype=np.int16) % 7
    assert torch.equal(front_end([whole], CPU).mel, front_end([whole.astype(np.float32)], CPU).mel)


def test_two_channels_are_refused(front_end: FrontEnd) -> None:
    with pytest.raises(ValueError, match="one row of samples"):
        front_end([noise(RATE), np.zeros((2 * RATE, 2), dtype=np.float32)], CPU)
    with pytest.raises(ValueError, match="one row of samples"):
        front_end([np.zeros((1, 2 * RATE), dtype=np.float32)], CPU)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_spoil_their_own_clip_alone(front_end: FrontEnd, bad: float) -> None:
    good, spoilt = noise(40_000), noise(40_000, seed=1)
    spoilt[20_000] = bad
    features, alone = front_end([good, spoilt, good], CPU), front_end([good], CPU)
    for place in (0, 2):
        torch.testing.assert_close(features.mel[place], alone.mel[0], atol=1e-6, rtol=0)
        assert torch.equal(features.fbank[place], alone.fbank[0])
    # As in the extractor all of the spectrogram is lost, by the peak; of the filter bank what the sample touches.
    assert features.mel[1].isnan().all()
    touched = features.fbank[1].isnan().any(dim=1).nonzero().flatten().tolist()
    assert touched == [123, 124, 125]


def test_without_beats_there_is_no_filter_bank() -> None:
    features = FrontEnd(WhisperFeatureExtractor(), patch_frames=0)([noise(RATE), noise(2 * RATE)], CPU)
    assert (tuple(features.fbank.shape), features.fbank_lengths) == ((2, 0, 128), (0, 0))
    assert features.fbank_frames.tolist() == [0, 0]


def test_autocast_makes_features_no_coarser(front_end: FrontEnd) -> None:
    expected = front_end([noise(30_000)], CPU)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = front_end([noise(30_000)], CPU)
    for one, other in ((features.mel, expected.mel), (features.fbank, expected.fbank)):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)


def test_the_callers_default_device_and_dtype_do_not_matter(front_end: FrontEnd) -> None:
    expected = front_end([noise(30_000)], CPU)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            strip = front_end.lay([noise(30_000)], pinned=False)
            assert strip.memory.device == CPU
            fresh = FrontEnd(front_end.extractor, patch_frames=16)
        features = fresh([noise(30_000)], CPU)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(features.mel, expected.mel)
    assert torch.equal(features.fbank, expected.fbank)


def test_only_frames_that_touch_a_clip_are_computed(front_end: FrontEnd) -> None:
    window = MelWindow(samples=480_000, fft=400, hop=160)
    assert [window.frames_of(samples) for samples in (160, 16_000, 479_000, 479_800, 480_000)] == [
        3, 102, 2995, 3000, 3000
    ]  # fmt: skip
    strip = front_end.lay([noise(RATE), noise(2 * RATE)], pinned=False)
    # Two clips of 1 and 2 s with what is around them, and a silent frame: far from two windows of 30 s.
    assert strip.samples.shape[0] < 3 * RATE + 2 * 2 * 400 + 2 * 400


def test_frames_come_in_blocks_that_hold_all_of_them_once() -> None:
    samples = torch.arange(3.0 * RATE)
    blocks = frame_blocks(samples, length=400, shift=160)
    assert all(block.shape[0] <= CPU_FRAMES for block in blocks)
    assert torch.equal(torch.cat(blocks), samples.unfold(0, 400, 160))


def test_a_long_batch_has_numbers_the_host_knows(front_end: FrontEnd) -> None:
    """The strip's own numbers survive as bits beside the samples, whatever these are."""
    waves = [np.full(RATE + 7 * place, np.nan, dtype=np.float32) for place in range(33)]
    strip = front_end.lay(waves, pinned=False)
    assert strip.mel_counts.tolist() == list(strip.mel_frames)
    assert strip.fbank_counts.tolist() == list(strip.fbank_frames)
    starts = strip.starts.tolist()
    assert starts[0] == 0
    assert all(start % 160 == 0 for start in starts)
    for start, wave in zip(starts, waves, strict=True):
        assert strip.samples[start : start + 200 + wave.size].isnan().all()
        assert not strip.samples[start + 200 + wave.size : start + 200 + wave.size + 100].any()
    assert isinstance(front_end.compute(strip), Features)
