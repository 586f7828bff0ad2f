"""dataset: what the network is shown, how often, and that seed, epoch and draw alone decide it."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch

from sercore.augment import SpectrogramWarp
from sercore.dataset import EpochSampler, TrainingSet, Voices

CLIP = np.random.default_rng(0).normal(-60, 5, (64, 40)).astype(np.float32)
PLAIN = {"max_bands": 0, "max_frames": 0}


def dataset_of(targets, **options):
    return TrainingSet([CLIP] * len(targets), targets, **options)


def positions(dataset, **options):
    return [position for position, _ in EpochSampler(dataset, **options)]


def test_a_training_item_is_a_scaled_window_and_its_target():
    X, target = dataset_of([0, 5], **PLAIN)[1, 0]
    assert X.shape == (1, 64, 176) and X.dtype == torch.float32
    assert target.shape == () and target.dtype == torch.int64 and target == 5
    np.testing.assert_allclose(X[0, :, :40], (CLIP + 50) / 20, rtol=1e-5)
    assert (X[0, :, 40:] == -1.5).all()


def test_a_vector_is_shown_whole_without_masks():
    X, target = TrainingSet([np.arange(30, dtype=np.float32) + 1], [6], max_bands=20, max_frames=20)[0, 0]
    assert X.tolist() == [list(range(1, 31))]
    assert target == 6


def test_other_voices_keep_the_emotion_and_hide_the_speaker():
    """Vectors of four speakers in two corpora: a constant of the speaker, and one number for the emotion."""
    speaker, emotion = np.repeat(np.arange(4), 4), np.tile([3, 4], 8)
    constants = np.random.default_rng(1).normal(0, 10, (4, 6))
    constants[:, 5] = 0
    vectors = (constants[speaker] + (emotion == 4)[:, None] * [0, 0, 0, 0, 0, 2.0]).astype(np.float32)
    voices = Voices(vectors, emotion, np.array(list("abcd"))[speaker], np.array(list("xxyy"))[speaker])
    dataset = TrainingSet(list(vectors), emotion, voices=voices)
    X = np.stack([[dataset[k, draw][0][0] for draw in range(200)] for k in range(16)])
    np.testing.assert_allclose(X[0] + vectors[1] - vectors[0], X[1], atol=1e-4)  # the same draw, another emotion
    np.testing.assert_allclose(X[0], X[4], atol=1e-4)  # the same draw, another speaker: nobody could tell
    assert X[0].std(axis=0)[:5].min() > 1


def test_each_corpus_lends_as_many_voices():
    speaker = np.arange(10)
    corpora = np.array(["x"] * 9 + ["y"])
    voices = Voices(np.ones((10, 3), np.float32), np.zeros(10, int), speaker.astype(str), corpora)
    assert voices.shares.tolist() == pytest.approx([1 / 18] * 9 + [0.5])


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_copies_stand_in_for_the_clip_as_often_as_told(share):
    copies = [[np.full((64, 10), -40, np.float32)]]
    dataset = TrainingSet([np.zeros((64, 10), np.float32)], [0], copies=copies, augmented_share=share, **PLAIN)
    seen = [dataset[0, draw][0][0, 0, 0].item() == 0.5 for draw in range(500)]
    assert np.mean(seen) == pytest.approx(share, abs=0.07)


def test_a_warp_sees_decibels_and_every_draw_of_a_clip_is_another():
    seen = []

    def louder(S_db, *, rng, floor_db, hop_s):
        seen.append((S_db, floor_db, hop_s))
        return S_db + 20.0

    S_db = np.full((64, 176), -30.0, np.float32)
    X, _ = TrainingSet([S_db], [0], warp=louder, **PLAIN)[0, 0]
    np.testing.assert_allclose(X, 2.0, atol=1e-5)  # (-10 + 50) / 20
    np.testing.assert_allclose(seen[0][0], S_db, atol=1e-4)
    assert seen[0][1:] == (-80.0, 0.016)
    dataset = TrainingSet([S_db], [0], warp=SpectrogramWarp(), **PLAIN)
    assert not torch.equal(dataset[0, 0][0], dataset[0, 1][0])
    assert torch.equal(dataset[0, 0][0], dataset[0, 0][0])


def test_an_item_changes_with_the_epoch_and_the_draw_but_not_otherwise():
    dataset = dataset_of(range(8), seed=3)
    first = dataset[2, 7][0]
    assert torch.equal(first, dataset[2, 7][0])
    assert not torch.equal(first, dataset[2, 8][0])
    dataset.epoch = 1
    assert not torch.equal(first, dataset[2, 7][0])


def test_a_balanced_epoch_shows_every_clip_and_every_emotion_equally_often():
    targets = [0] * 5 + [1] * 12 + [3] * 8
    dataset = dataset_of(targets)
    pairs = list(EpochSampler(dataset))
    drawn = [position for position, _ in pairs]
    assert [draw for _, draw in pairs] == list(range(len(EpochSampler(dataset)))) == list(range(36))
    assert set(drawn) == set(range(25))
    assert Counter(targets[position] for position in drawn) == {0: 12, 1: 12, 3: 12}
    assert max(Counter(drawn).values()) == 3
    assert sorted(positions(dataset, balance=False)) == list(range(25))


def test_every_corpus_has_its_share_of_an_epoch_and_every_emotion_its_share_of_the_corpus():
    targets = np.array([0] * 300 + [1] * 100 + [0] * 30 + [2] * 10)
    groups = np.array([0] * 400 + [1] * 40)
    dataset = dataset_of(targets, groups=groups)
    drawn = []
    for dataset.epoch in range(1, 41):
        order = positions(dataset)
        assert len(order) == 440
        drawn += order
    shares = pd.crosstab(groups[drawn], targets[drawn], normalize=True)
    np.testing.assert_allclose(shares, [[0.25, 0.25, 0.0], [0.25, 0.0, 0.25]], atol=0.02)
    assert positions(dataset) == positions(dataset)
    assert sorted(positions(dataset, balance=False)) == list(range(440))
