"""What a training by itself asks of the model: how quick it is here, to learn, and to be judged."""

from collections.abc import Callable
from pathlib import Path

import torch
from msgspec import Struct

from millrace.feed.encoder.comparing import compared
from millrace.feed.encoder.gradient import backward, vectors_of
from millrace.feed.encoder.learner import Progress, Running, draw_of, memory_of
from millrace.feed.encoder.parallel import Ranks, own_device
from millrace.feed.encoder.teaching import Place, lesson_of, teach
from millrace.feed.encoder.trainee import machine_for, trainable
from millrace.feed.encoder_versions import EncoderVersion
from millrace.feed.examples.reading import Examples
from millrace.feed.gate import Asked
from millrace.feed.recipe import EncoderRecipe
from millrace.feed.trainer_plan import Pace
from millrace.kernel.clock import Clock

WHOLE = 1 << 20  # longer than any vector: all of it counts
SAVE_EVERY = 20  # steps: about a minute on a core, for a second of writing
STEPS_MEASURED = 2  # behind one that also fetches the memory


class School(Struct, frozen=True, kw_only=True):
    """Trains and judges on one place. Every call takes as long as it takes."""

    clock: Clock
    place: Place = Place()

    def pace(self, data: Path, start: Path | None, recipe: EncoderRecipe) -> Pace:
        """Measure how long a step takes, and a text that is only read.

        Args:
            data: examples.
            start: the model that training begins with; None for the packaged one.
            recipe: how it would be trained.
        """
        torch.set_num_threads(self.place.threads)
        machine = machine_for(own_device(self.place.device), recipe.precision, Ranks())
        trainee = trainable(start, recipe, machine)
        lesson = lesson_of(Examples(data), trainee, recipe)
        memory = memory_of(trainee, lesson.remembering, machine)
        steps: list[float] = []
        for step in range(1 + STEPS_MEASURED):
            began = self.clock.monotonic()
            draw = draw_of(recipe.seed, step)
            backward(trainee.reader, lesson.draw(step), recipe, machine, draw, memory)
            steps.append(self.clock.monotonic() - began)
        texts = lesson.draw(0).posts
        began = self.clock.monotonic()
        vectors_of(trainee.reader, texts, machine)
        known = lesson.remembering
        return Pace(
            texts=0 if known is None else known.posts + known.profiles,
            step_seconds=sum(steps[1:]) / STEPS_MEASURED,
            text_seconds=(self.clock.monotonic() - began) / max(texts.rows, 1),
        )

    def teach(
        self,
        data: Path,
        start: Path | None,
        recipe: EncoderRecipe,
        to: Path,
        tell: Callable[[int], None],
    ) -> Path:
        """Train, or go on; return the directory of the model.

        Args:
            data: examples.
            start: the model that training begins with; None for the packaged one.
            recipe: how.
            to: where its checkpoints are.
            tell: is told of each step.
        """

        def told(progress: Progress) -> None:
            tell(progress.step)

        running = Running(to=to, resume=True, save_every=SAVE_EVERY, tell=told)
        return teach(data, start, recipe, running, self.place).folder

    def ask(self, data: Path, candidate: Path, serving: EncoderVersion) -> Asked:
        """Ask two encoders the same questions: of the moments behind what either learned from.

        Args:
            data: examples, to their end.
            candidate: directory of a trained model.
            serving: the encoder that serves, in its length and its form.
        """
        both = [(str(candidate), WHOLE), (serving.directory, serving.dims)]
        found = compared(data, both, self.place.threads, [serving.history] * len(both))
        mine, theirs = found.each
        return Asked(since=found.since, candidate=mine, serving=theirs)
