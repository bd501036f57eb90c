"""How the trainings do that come by themselves: the table tells, this only shows."""

from collections.abc import Iterable, Sequence

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from millrace.feed.encoder_trainings import EncoderTraining, Stage

STATE = "millrace_training_state"


class TrainingGauges(Collector):
    """Where the newest training stands, and what the last gate said; nothing before the first one."""

    def __init__(self) -> None:
        self.newest: Sequence[EncoderTraining] = ()

    def collect(self) -> Iterable[Metric]:
        """Yield the gauges."""
        if not self.newest:
            return
        last = self.newest[0]
        states = GaugeMetricFamily(
            STATE, "Whether the newest training by itself is in a state.", labels=["state"]
        )
        for stage in Stage:
            states.add_metric([stage.value], last.state is stage)
        yield states
        steps = 0 if last.way is None else last.way.steps
        yield GaugeMetricFamily("millrace_training_step", "Steps that it has taken.", last.step)
        yield GaugeMetricFamily("millrace_training_steps", "Steps that it will take.", steps)
        gate = next((one.judgement for one in self.newest if one.judgement is not None), None)
        if gate is None:
            return
        low, high = gate.interval
        for name, about, value in (
            ("members", "Members whom the last gate asked.", gate.members),
            ("difference", "By how much more the candidate found, recall at 10.", gate.difference),
            ("difference_low", "Lower end of that difference's interval.", low),
            ("difference_high", "Upper end of it.", high),
        ):
            yield GaugeMetricFamily(f"millrace_training_gate_{name}", about, value)
