"""Two generations of one prompt that part and meet again, without a model."""

from dataclasses import replace

from app.formats import json_safe
from sol_core.actions import GRIDS, Budget
from sol_core.config import GenerationConfig, ScheduleConfig, SideRowConfig
from sol_core.events import event_to_dict
from tests.support.fake_engine import FakeEngine

DENSE = SideRowConfig("dense", ScheduleConfig("dense"))


def save_pair(
    store, first, second, prompts=("Why </script>?", "Why </script>?"), *, has_shadow=True
):
    """Saves both and returns the comparison's id; the same text is the same token."""
    ids = {text: 100 + at for at, text in enumerate(dict.fromkeys((*first, *second)))}
    schedules = (
        ScheduleConfig("policy", Budget(0.5, 0.7, 10), policy="default"),
        ScheduleConfig("static", Budget(0.3, 0.6, 8)),
    )
    made = []
    for tokens, schedule, prompt in zip((first, second), schedules, prompts, strict=True):
        config = GenerationConfig(
            schedule,
            (DENSE,) if has_shadow else (),
            max_new_tokens=max(len(tokens), 1),
            grid=GRIDS["default"],
        )
        record = store.runs.create(
            "a" * 32, prompt, "fake-model", schedule.kind, json_safe(config.to_dict())
        )
        engine = FakeEngine(tokens=tokens, repeat=False)
        start, *steps, end = engine(None, prompt, config, lambda: False)
        events = [replace(step, token_id=ids[step.text]) for step in steps]
        store.runs.set_prefill(record.id, json_safe(event_to_dict(start)))
        store.runs.append_events(record.id, [json_safe(event_to_dict(one)) for one in events])
        store.runs.finish(record.id, "finished", json_safe(event_to_dict(end)))
        made.append(record.id)
    return ",".join(made)
