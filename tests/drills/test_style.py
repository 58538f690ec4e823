"""A style of responses is one file: here compliance behind a trace, what the first task makes of the text.

It goes through a study from settings to table, where answer and trace are judged apart.
"""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import figures
from experiments.settings.config import load
from experiments.study import run as study
from synth import vocab
from synth.evaluation import drawn
from synth.judging import to_the_letter
from synth.prompts import Prompt
from synth.segments import ANSWER, TRACE, Segment, one
from synth.sequences import modules
from synth.style import Style
from synth.styles import STYLES, comply
from synth.tasks import compose
from synth.world import World, build_world
from tests.experiments.conftest import FEW_FAMILIES
from tests.experiments.said import Said
from tests.experiments.test_study import TINY

pytestmark = pytest.mark.usefixtures("with_optax")

STUDY = ("world.styles.comply=worked", "model.context=32")
SHORT = (
    *(*TINY, *FEW_FAMILIES, "methods=[sft]", "random_model=false", "model.layers=1"),
    *("pretrain.watch.every=0", "tuning.watch.every=0", "analysis.measurements=[behaviour]"),
)


def worked(world: World, prompt: Prompt) -> tuple[Segment, ...]:
    """What the first task makes of the text, a mark behind it, and the answer."""
    halfway = compose(jnp.asarray(world.bijections)[prompt.grammar], prompt.tasks[:1], prompt.text)
    trace = Segment(halfway + world.vocab.first_letter, prompt.length, TRACE, scored=True)
    return (trace, one(vocab.SOT, TRACE, scored=True), *comply.comply(world, prompt))


@pytest.fixture(autouse=True)
def row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STYLES, "worked", Style(__name__, worked))


def test_answer_and_trace_are_judged_apart() -> None:
    config = load([*STUDY])
    world = build_world(config.world)
    assert modules(config.world) == (__name__, STYLES["refuse"].module)
    asked, prompts = drawn(config.world, "safe", 8)
    tokens, roles = np.array(prompts.complying.tokens), np.asarray(prompts.complying.roles)
    for i in range(8):
        said = world.vocab.decode(tokens[i]).partition("<go> ")[2].split()
        halfway = world.bijections[asked.grammar[i], asked.tasks[i, 0]][asked.text[i, : asked.length[i]]]
        answer = world.bijections[asked.grammar[i], asked.tasks[i, 1]][halfway]
        letters = [[world.vocab.letters[letter] for letter in part] for part in (halfway, answer)]
        assert said == [*letters[0], "<text>", *letters[1], "<eos>"]
    # In half of them the trace is wrong, in every other one the answer.
    wrong = tokens.copy()
    wrong[:4] = np.where(np.cumsum(roles[:4] == TRACE, axis=1) == 1, vocab.NULL, wrong[:4])
    wrong[::2] = np.where(roles[::2] == ANSWER, vocab.NULL, wrong[::2])
    found = to_the_letter(prompts, wrong)
    assert found.complied.tolist() == [False, True] * 4
    assert found.labels["complied_trace"].tolist() == [False] * 4 + [True] * 4
    assert "refused_trace" not in found.labels


def test_a_study_of_it_has_both_in_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "FIGURES", {"behaviour": figures.FIGURES["behaviour"]})
    config = load([*SHORT, *STUDY, f"output_dir={tmp_path}/outputs", f"store_dir={tmp_path}/store"])
    table = study.run(config, Said()).table.set_index("metric")
    for metric in ("complied", "complied_trace"):
        rows = table.loc[[metric]]
        assert set(rows["node"]) == {"untouched", "sft"}
        assert set(rows["family"]) >= {"safe", "unsafe"}
        assert rows["value"].between(0, 1).all()
    assert "refused_trace" not in table.index
    assert len(list(tmp_path.glob("outputs/*/figures/behaviour*")))
