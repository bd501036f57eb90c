"""Where trainings by themselves write, and where what they made stays.

    DATA/encoders/NAME/         a model that was let pass; the table of encoders names it
    DATA/trainings/NUMBER/      a training that goes on
        all/                    examples up to when it began: what it is judged by is the end of them
        taught/                 the same, cut earlier: what it learns from
        run/                    checkpoints (encoder/checkpoints.py)

Nothing else grows here: `tidy` removes what belongs to no training and to no encoder.
"""

import shutil
from collections.abc import Collection
from pathlib import Path

from millrace.feed.encoder_trainings import EncoderTraining

MODELS, TRAININGS = "encoders", "trainings"
PREFIX = "trained-"
ALL, TAUGHT, RUN, BEST = "all", "taught", "run", "best"


class EncoderShelf:
    """The folders of one installation on this machine."""

    def __init__(self, data_dir: Path) -> None:
        self._models = data_dir / MODELS
        self._trainings = data_dir / TRAININGS

    @property
    def place(self) -> str:
        """Return the name of this shelf: trainings of another one are not gone on with here."""
        return str(self._trainings)

    def name(self, training: EncoderTraining) -> str:
        """Return what the encoder of a training is called."""
        return f"{PREFIX}{training.began_at:%Y%m%d-%H%M%S}"

    def folder(self, training: EncoderTraining, part: str = "") -> Path:
        """Return the folder of a training, or a part of it."""
        return self._trainings / str(training.training_id) / part

    def best(self, training: EncoderTraining) -> Path:
        """Return where the model of a training is: among the models, once it was let pass."""
        kept = self._models / self.name(training)
        return kept if kept.exists() else self.folder(training, RUN) / BEST

    def keep(self, training: EncoderTraining) -> Path:
        """Put the model of a training among the models; return where it is. Twice is as once."""
        kept = self._models / self.name(training)
        if not kept.exists():
            self._models.mkdir(parents=True, exist_ok=True)
            (self.folder(training, RUN) / BEST).rename(kept)
        return kept

    def tidy(self, kept: Collection[str]) -> None:
        """Remove what is left of trainings, none of which goes on, and models that nobody names.

        Args:
            kept: directories of models that the table names.
        """
        stay = {Path(one).name for one in kept}  # a data directory may be named in several ways
        for shelf, names in ((self._models, f"{PREFIX}*"), (self._trainings, "[0-9]*")):
            for folder in shelf.glob(names):
                if folder.name not in stay:
                    shutil.rmtree(folder, ignore_errors=True)
