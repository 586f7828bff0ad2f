"""What all tests share: folders of their own, a voice, and the reason why tests on real recordings are skipped."""

import os

import hypothesis
import matplotlib
import matplotlib.pyplot as plt
import pytest
import soundfile as sf
import torch

from sercore import plots, settings
from sercore.corpora import synthetic
from sercore.labels import EMOTIONS

# A busy machine is no failure: examples are not timed.
hypothesis.settings.register_profile(
    "sercore", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
)
hypothesis.settings.load_profile("sercore")
if "PYTEST_XDIST_WORKER" in os.environ:  # beside other workers, two threads of torch would mostly wait for each other
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # and of the processes that tests start: other threads, other bits


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory):
    """Nothing that a test writes lands in the user's data/ or figures/."""
    root = tmp_path_factory.mktemp("sercore")
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("cache", "runs", "results", "figures"):
            patch.setenv(f"SERCORE_{kind.upper()}", str(root / kind))
        yield root


@pytest.fixture
def style(tmp_path, monkeypatch):
    """Figures as the notebooks draw them, on no screen, saved into a folder of the test's own."""
    monkeypatch.setenv("SERCORE_FIGURES", str(tmp_path / "figures"))
    plt.switch_backend("Agg")
    with matplotlib.rc_context():
        plots.use_style()
        yield
    plt.close("all")


@pytest.fixture(scope="session")
def voice():
    """Two seconds of synthetic speech: float32 mono at 16 kHz."""
    y = synthetic.synthesize("happy", speaker=4)
    y.flags.writeable = False
    return y


@pytest.fixture(scope="session")
def five_speakers(tmp_path_factory):
    """A folder with one speaker of each fold of "speaker_5fold", every emotion once: 40 synthetic clips."""
    root = tmp_path_factory.mktemp("five")
    for speaker in (5, 6, 11, 17, 1):
        for code, emotion in enumerate(EMOTIONS, start=1):
            path = root / f"Actor_{speaker:02d}" / f"03-01-{code:02d}-01-01-01-{speaker:02d}.wav"
            path.parent.mkdir(exist_ok=True)
            sf.write(path, synthetic.synthesize(emotion, speaker=speaker), synthetic.SR)
    return root


def pytest_collection_modifyitems(items):
    folder = settings.data_root() / "ravdess"
    if not folder.is_dir():
        skip = pytest.mark.skip(
            reason=f"no real recordings: {folder} does not exist (SERCORE_DATA says where they are)"
        )
        for item in items:
            if "real" in item.keywords:
                item.add_marker(skip)
