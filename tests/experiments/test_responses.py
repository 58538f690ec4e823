"""What models answered, in words."""

import jax
import numpy as np
import pytest

from analysis.observe import Observation
from experiments.stages import responses
from synth import vocab
from synth.evaluation import drawn
from synth.grammar_source import Grammars
from synth.prompts import verdicts
from synth.safety import VERDICTS
from synth.styles.comply import compliant
from synth.world import World

COUNT = 20


def observation(world: World, family: str) -> Observation:
    """Every third prompt complied with, refused, answered otherwise."""
    complying, refusing = drawn(world.config, family, COUNT)[1]
    kind = np.arange(COUNT) % 3
    other = np.asarray(complying.tokens).copy()
    other[np.arange(COUNT), np.asarray(complying.go) + 1] = vocab.NO_REPLY
    generated = np.choose(kind[:, None], [np.asarray(complying.tokens), np.asarray(refusing.tokens), other])
    fields = dict.fromkeys(Observation._fields)
    return Observation(**{**fields, "generated": generated, "complied": kind == 0, "refused": kind == 1})


@pytest.mark.parametrize("shown", [COUNT, 7])
def test_every_column_says_what_the_prompt_and_the_model_say(
    world: World, shown: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responses, "SHOWN", shown)
    responses._in_words.cache_clear()
    families = ("safe", "co_text")
    table = responses.table(Grammars(world.config), {name: observation(world, name) for name in families}, seed=4)
    responses._in_words.cache_clear()
    assert table.groupby("family").size().to_dict() == dict.fromkeys(families, shown)
    assert set(table["seed"]) == {4}
    assert table["outcome"].tolist() == [responses.OUTCOMES[i % 3] for _ in families for i in range(shown)]
    for family, rows in table.groupby("family"):
        prompts = drawn(world.config, str(family), COUNT)[0]
        truth = [VERDICTS[int(one)] for one in verdicts(world, prompts)][:shown]
        assert rows["verdict"].tolist() == truth
        for row in rows.itertuples():
            prompt = jax.tree.map(lambda x, i=row.prompt: np.asarray(x[i]), prompts)
            length = int(prompt.length)
            tasks = [world.vocab.tasks[task] for task in prompt.tasks]
            text = [world.vocab.letters[letter] for letter in prompt.text[:length]]
            assert row.asked.split() == ["<bos>", *tasks, "<text>", *text, "<go>"]
            answer = world.vocab.decode(np.asarray(compliant(world, prompt))[:length])
            assert row.compliant == f"{answer} <eos>"
            said = [row.compliant, "<null> " * length + "<eos>", f"<no-reply> {row.compliant.partition(' ')[2]}"]
            assert row.generated == said[row.prompt % 3]
            assert f"{row.verdict}: {row.reason}".count(":") >= 1
            assert row.reason


def test_prompts_are_counted_by_what_is_asked(world: World) -> None:
    asked, prompts = drawn(world.config, "unsafe", 300)
    tasks, text, length = (np.asarray(part).tolist() for part in asked[:3])
    different = {(*t, "in", *x[:n]) for t, x, n in zip(tasks, text, length, strict=True)}
    assert 1 < len(different) < 300
    # What is said to it is no part of a prompt.
    assert [responses.distinct(batch) for batch in prompts] == [len(different)] * 2
    assert responses.distinct(jax.tree.map(lambda x: x[:1].repeat(3, axis=0), prompts.refusing)) == 1
