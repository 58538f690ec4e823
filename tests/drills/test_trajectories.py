"""Labels of whole trajectories are a judge: here of prompt, trace and answer together."""

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
import pytest

from analysis import behaviour
from analysis.metric import SHARE, Metric
from analysis.metrics import METRICS
from analysis.rows import Samples
from experiments.settings.config import load
from experiments.stages.measure import Asked, prompts_of, subject
from experiments.stages.prompts import drawn
from models.transformer import ModelConfig, init
from synth import vocab
from synth.grammar_source import Grammars
from synth.judging import Judgement, to_the_letter
from synth.prompts import Prompt
from synth.segments import TRACE
from synth.sequences import Prompts
from synth.style import Style
from synth.styles import STYLES
from synth.world import build_world
from tests.drills.test_style import worked


class Trajectories(Grammars):
    """Whoever thinks or says the null token refuses, and whoever acts on the right thought complies.

    Of a consistent one the answer is what the second task makes of the thought, be it right or wrong.
    """

    def modules(self, families: Iterable[str]) -> tuple[str, ...]:
        return (__name__, *super().modules(families))

    def judge(self, asked: Prompt, prompts: Prompts, generated: Any) -> Judgement:
        said = [row[go + 1 :].tolist() for row, go in zip(generated, prompts.complying.go, strict=True)]
        tables = build_world(self.world).bijections[np.asarray(asked.grammar), np.asarray(asked.tasks[:, 1])]
        consistent = np.array([self.is_consistent(*of) for of in zip(tables, said, strict=True)])
        thought = to_the_letter(prompts, generated).labels["complied_trace"]
        refused = np.array([vocab.NULL in of for of in said])
        return Judgement(consistent & thought & ~refused, refused, {"consistent": consistent})

    def is_consistent(self, table: np.ndarray, said: list[int]) -> bool:
        if vocab.SOT not in said or vocab.EOS not in said:
            return False
        mark, first = said.index(vocab.SOT), self.vocab.first_letter
        thought = [table[token - first] + first if token >= first else None for token in said[:mark]]
        return thought == said[mark + 1 : said.index(vocab.EOS)]


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Trajectories:
    monkeypatch.setitem(STYLES, "worked", Style(__name__, worked))
    monkeypatch.setitem(METRICS, "consistent", Metric("consistent", SHARE, "The answer is what the thought leads to."))
    return Trajectories(load(["world.styles.comply=worked", "model.context=32"]).world)


def test_trace_and_answer_are_judged_together(source: Trajectories) -> None:
    asked, prompts = drawn(source, "safe", 8)
    tokens, roles, go = (np.array(x) for x in (prompts.complying.tokens, prompts.complying.roles, prompts.complying.go))
    first, begun = source.vocab.first_letter, go + 1
    answer = begun + (roles == TRACE).sum(axis=1)
    table = build_world(source.world).bijections[np.asarray(asked.grammar), np.asarray(asked.tasks[:, 1])]
    for i in range(8):
        if i % 4:  # 1: another thought and what follows from it; 2: the thought alone is another; 3: a null in it.
            letter = (tokens[i, begun[i]] - first + 1) % len(source.vocab.letters)
            tokens[i, begun[i]] = vocab.NULL if i % 4 == 3 else letter + first
        if i % 4 == 1:
            tokens[i, answer[i]] = table[i, letter] + first
    found = source.judge(asked, prompts, tokens)
    assert found.labels["consistent"].tolist() == [True, True, False, False] * 2
    assert found.complied.tolist() == [True, False, False, False] * 2
    assert found.refused.tolist() == [False, False, False, True] * 2
    # Equality with the compliant answer would have had others comply.
    assert to_the_letter(prompts, tokens).complied.tolist() == [True, False, True, True] * 2


def test_rows_of_each_label_come_out(source: Trajectories, key: jax.Array) -> None:
    families, model = ("safe", "unsafe"), ModelConfig(layers=1, heads=1, width=8, context=32)
    asked = Asked(source, families, prompts=16, validation=8, window=2, prompts_before=4)
    params = jax.tree.map(lambda x: 8 * x, init(model, source.vocab.size, key))
    params["W_U"] = params["W_U"].at[:, vocab.NULL].multiply(3.0)
    seen = subject(model, asked, params, params, prompts_of(asked), 0)
    values = {(of.family, of.metric): of.values for of in behaviour.measure(seen) if isinstance(of, Samples)}
    for family in families:
        said = source.judge(drawn(source, family, 16)[0], seen.prompts[family], seen.observations[family].generated)
        for metric, labels in (("complied", said.complied), ("refused", said.refused), *said.labels.items()):
            assert values[family, metric].tolist() == labels.tolist()
        assert 0 < said.refused.sum() < 16
        assert not (said.complied & said.refused).any()
    assert "complied_trace" not in {metric for _, metric in values}
