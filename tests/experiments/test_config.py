"""Bad settings are one clear line before any work; good ones compose."""

import functools
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from experiments.settings import presets
from experiments.settings.commands import CompareConfig, ExportConfig, FiguresConfig, StoreConfig
from experiments.settings.config import load
from experiments.settings.plain import to_dict
from experiments.settings.presets import CONF
from experiments.settings.schema import LauncherConfig, StudyConfig
from experiments.study import output
from experiments.study.plan import plan
from models.training.methods import METHODS
from synth.settings import UserError

BAD = [
    ("modl.layers=3", "modl.layers: there is no such setting; did you mean model.layers?"),
    ("held_out=0.2", "held_out: there is no such setting; did you mean world.held_out?"),
    ("model.layrs=3", "model.layrs: there is no such setting; did you mean model.layers?"),
    ("zzz=3", "zzz: there is no such setting; --show lists the settings"),
    (
        "study=qick",
        "study=qick: there is no such preset; "
        "choose from landscape, late_refusal, paper, quick, refusal_direction, small",
    ),
    ("seeds", "'seeds' is not a setting: write name=value"),
    ("model.layers=abc", "model.layers=abc: Value 'abc' of type 'str' could not be converted to Integer"),
    ("seeds=1.5", "seeds=1.5: Value '1.5' of type 'float' could not be converted to Integer"),
    ("seeds=0", "seeds=0: must be at least 1; set seeds to 1 or more"),
    ("pretrain.steps=-5", "pretrain.steps=-5: must be at least 1; set steps to 1 or more"),
    ("pretrain.learning_rate=nan", "pretrain.learning_rate=nan: must be a finite number above 0"),
    ("tuning.data.unsafe_share=1.2", "tuning.data.unsafe_share=1.2: must be a share from 0 to 1"),
    ("tuning.optimizer.warmup=7", "tuning.optimizer.warmup=7.0: must be a share from 0 to 1"),
    ("method.dpo.beta=0", "method.dpo.beta=0.0: must be a finite number above 0"),
    ("method=3", "method=3: must be coefficients of methods; for example method.dpo.beta=0.1"),
    ("methods=[sft,foo]", "methods=foo: must be among sft, dpo, unlearning, npo"),
    ("methods=[]", "methods=[]: must name at least one method"),
    ("methods=[sft,sft]", "must not repeat a method"),
    ("world.safety.unsafe_tasks=[2,9]", "world.safety.unsafe_tasks=[2, 9]: must lie from 1 to 5, below tasks.count=6"),
    ("world.tasks.aliases=9", "world.tasks.aliases=9: must be from 0 to count=6"),
    ("world.safety.rule=most", "world.safety.rule=most: must be one of all, any, task_only, concept_only, xor"),
    ("world.safety.table=[[0,1],[1,1]]", "world.safety.table=2 rows of [2]: must have a row for each of 2 groups"),
    ("world.coverage.tasks=[9]", "world.coverage.tasks=[9]: must hold numbers from 0 to 5"),
    ("world.coverage.concepts=[C7]", "world.coverage.concepts=C7: must be among A0, A1, B0, B1"),
    ("world.text.length=[7,9]", "world.text.length=[7, 9]: only 0.00% of the texts of A0 have such a length"),
    ("world.text.cropped_from=[3,4]", "world.text.cropped_from=[3, 4]: must begin at 6 letters or more"),
    ("world.grammar.source=@nowhere.yaml", "world.grammar.source=@nowhere.yaml: No such file or directory"),
    ("world.grammar.source=nonsense", "world.grammar.source=line 1: a grammar must be a mapping"),
    ("world=nowhere.yaml", "world=nowhere.yaml: there is no such file"),
    ("world.held_out=0", "world.held_out=0.0: must be from 0.01 to 0.5"),
    ("world.seed=99999999999999999999", "world.seed=99999999999999999999: must be from 0 to 2^32 - 1"),
    ("world.tasks.composed=40", "world.tasks.composed=40: must be from 1 to 4"),
    ("pretrain.optimizer.b1=1", "pretrain.optimizer.b1=1.0: must be from 0 to below 1"),
    ("world.grammar.alphabet=3", "world.grammar.alphabet=3: gives 9 strings of 2-2 letters where the 8 symbols x 5"),
    ("world.grammar.branching=[[1]]", "world.grammar.branching=[1]: must be [low, high] with 1 <= low <= high"),
    ("world.grammar.branching=[[3,2]]", "world.grammar.branching=[3, 2]: must be [low, high] with 1 <= low <= high"),
    ("world.grammar.symbols=[1]", "world.grammar.symbols=1: must give each of the 2 concept groups a symbol"),
    (
        "model.context=10",
        "model.context=10: must hold the world's longest sequence, 18 tokens; set model.context to 18",
    ),
    ("model.width=65", "model.width=65: must be a multiple of heads=4; set width to 64 or 68"),
    ("analysis.measurements=[clusters]", "analysis.measurements=['clusters']: must contain behaviour"),
    ("analysis.measurements=[behaviour,none]", "analysis.measurements=none: must be among behaviour, clusters"),
    ("analysis.attacks.enabled=true", "analysis.attacks.enabled: there is no such setting; did you mean analysis.meas"),
    ("analysis.directions.positions=[-1,9]", "analysis.directions.positions=[-1, 9]: must be from -6 to 6, in the"),
    ("analysis.clusters.window=9", "analysis.clusters.window=9: must be at most 7, the positions the shortest"),
    ("analysis.families=[safe]", "analysis.families=['safe']: must contain unsafe"),
    (
        "analysis.families=[safe,unsafe,x]",
        "analysis.families=x: must be among safe, unsafe, co_task, co_text, misgen_task",
    ),
    ("analysis.nullspace.rank_share=0", "analysis.nullspace.rank_share=0.0: must be in (0, 1]"),
    ("analysis.prompts=1", "analysis.prompts=1: must be at least 2, for a spread"),
    ("checkpoint_seconds=-1", "checkpoint_seconds=-1.0: must be 0 or more"),
    ("seeds=[", "seeds=[: no viable alternative at input '['"),
    ("model=3", "model=3: there is no such preset; choose from paper, quick, small, or name a file that ends in .yaml"),
    ("+new=3", "'+new=3' is not a setting"),
]


@pytest.mark.parametrize(("override", "message"), BAD, ids=lambda value: value if "=" in value[:30] else "")
def test_bad_settings_name_setting_value_bound_and_fix(override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load([override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command_says_so_in_one_line_and_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "experiments.run",
        "pretrain.steps=-5",
        f"output_dir={tmp_path}/o",
        f"store_dir={tmp_path}/s",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: pretrain.steps=-5: must be at least 1; set steps to 1 or more\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("study", sorted(path.stem for path in (CONF / "study").glob("*.yaml")))
def test_every_study_composes_and_opens_with_what_it_is(study: str) -> None:
    assert load([f"study={study}"]).study == study
    head = (CONF / "study" / f"{study}.yaml").read_text().splitlines()[1:4]
    assert [line.split()[1] for line in head] == ["Question", "Command", "Time"]


@pytest.mark.parametrize("path", sorted(CONF.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_preset_can_be_chosen_and_as_plain_dictionaries_is_omegaconfs(path: Path) -> None:
    config = load([f"{path.parent.name}={path.stem}", "model.context=100", "runs_at_once=2"])
    # Numbers that OmegaConf has not seen yet.
    config.checkpoint_seconds, config.ablation.points = 3, {"a": {"seeds": 2, "list": [1, (2.5, None)]}}
    expected = OmegaConf.to_container(OmegaConf.structured(config), enum_to_str=True)
    assert json.dumps(to_dict(config)) == json.dumps(expected)


def test_an_explicit_family_that_the_world_cannot_have_is_an_error() -> None:
    with pytest.raises(UserError, match=r"world.tasks.aliases=0: prompts with an alias need one; set 1 or more"):
        load(["analysis.families=[safe,unsafe,misgen_task]", "world.tasks.aliases=0"])
    assert load(["world.tasks.aliases=0"]).analysis.families is None


@pytest.mark.parametrize("setting", ["attacks.families", "interventions.families", "landscape.families"])
@pytest.mark.parametrize(
    ("given", "others", "measured"),
    [
        ("misgen_task", ["world.tasks.aliases=0"], "the families that the world has, safe, unsafe, co_task, "),
        ("unsafe@productions", [], "the families that the world has, safe, unsafe, "),
        ("co_task", ["analysis.families=[safe,unsafe]"], "families, safe, unsafe; leave co_task out"),
    ],
    ids=["not of the world", "a part", "not named"],
)
def test_what_is_attacked_or_intervened_on_is_measured(
    setting: str, given: str, others: list[str], measured: str
) -> None:
    override = f"analysis.{setting}=[safe,{given}]"
    with pytest.raises(UserError) as caught:
        load([override, *others])
    assert str(caught.value).startswith(f"analysis.{setting}=['safe', '{given}']: must be among {measured}")
    assert "\n" not in str(caught.value)


def test_a_part_of_a_family_is_attacked_where_it_is_measured_and_any_that_the_world_has_where_none_is_named() -> None:
    both = "[safe,unsafe,unsafe@productions]"
    named = f"analysis.families={both}"
    names = tuple(both[1:-1].split(","))
    assert load([named, f"analysis.attacks.families={both}"]).analysis.attacks.families == names
    assert load(["analysis.interventions.families=[co_task]"]).analysis.interventions.families == ("co_task",)


def test_a_preset_may_be_the_users_own_file(tmp_path: Path) -> None:
    grammar = "letters: [x, y]\ngroups: {A: p, B: q}\nrules: {p: [x y x, y x y], q: [y y y, x x x]}\n"
    (tmp_path / "mine.yaml").write_text("name: mine\ntasks: {count: 2, aliases: 0}\nsafety: {unsafe_tasks: [1, 1]}\n")
    (tmp_path / "grammar.yaml").write_text(grammar)
    own = [f"world={tmp_path}/mine.yaml", f"world.grammar.source=@{tmp_path}/grammar.yaml", "world.seed=3"]
    world = load(own).world
    assert (world.name, world.seed, world.tasks.count) == ("mine", 3, 2)
    assert world.grammar.source == grammar


def test_a_users_file_is_not_mistaken_for_the_preset_of_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "quick.yaml").write_text("name: mine\ntasks: {count: 3}\nsafety: {unsafe_tasks: [1, 2]}\n")
    world = load([f"world={tmp_path}/quick.yaml"]).world
    assert (world.name, world.tasks.count) == ("mine", 3)


EVERYDAY = (
    "é",
    "数据",
    "a=b",
    "my (1)",
    "it's",
    "a, b",
    "#1",
    "a&b",
    "1e5",
    "1_000",
    "true",
    "010",
    " a ",
    "null",
    "$x",
)
EVERYDAY += ("[a]", "{a: 1}", 'say "a"', "''", "~a", "a;b|c<d>", "a\\", "a\\'", "%41", "*?!", "a:b")


@pytest.mark.parametrize("text", EVERYDAY)
@pytest.mark.parametrize(
    ("kind", "names", "needed"),
    [
        (StudyConfig, ["store_dir", "world.name"], []),
        (StoreConfig, ["key"], []),
        (CompareConfig, ["a"], ["b=x"]),
        (ExportConfig, ["run"], ["out=x"]),
        (FiguresConfig, ["cell"], ["run=x"]),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_text_is_taken_as_it_is_written(kind: type, names: list[str], needed: list[str], text: str) -> None:
    config = load([*needed, *(f"{name}={text}" for name in names)], kind)
    for name in names:
        found = functools.reduce(getattr, name.split("."), config)
        assert found == (None if text == "null" and name == "cell" else text)


@dataclass(unsafe_hash=True)
class Worded:
    word: str = "a"


def test_a_coefficient_that_is_text_is_taken_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "worded", METHODS["sft"]._replace(hyper=Worded))
    assert load(["method.worded.word=1e5"]).method.worded == Worded("1e5")


def test_a_reference_in_a_text_is_refused() -> None:
    with pytest.raises(UserError, match=r"^store_dir=a\$\{b: text must not have \$\{ in it; write it without$"):
        load(["store_dir=a${b"])


def test_values_that_are_no_text_keep_their_grammar() -> None:
    config = load(["seeds=1_0", "tuning.learning_rate=1e-5", "random_model=no", "runs_at_once=null"])
    assert (config.seeds, config.tuning.learning_rate) == (10, 1e-5)
    assert (config.random_model, config.runs_at_once) == (False, None)


@pytest.mark.parametrize("name", ["my (1)", "é", "数据", "a=b,c", "it's #1 & 'more'", "[a] {b}", "a\\"])
def test_an_own_preset_may_lie_anywhere(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / f"{name}.yaml").write_text("name: mine\n")
    # Copies of presets too may be below such a folder.
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    assert load([f"world={folder}/{name}.yaml", f"store_dir={folder}"]).world.name == "mine"
    assert [path.name for path in folder.iterdir()] == [f"{name}.yaml"]


UNQUOTED = (
    "1e5",
    "010",
    "1_000",
    "no",
    "1:30",
    "0x1F",
    "~",
    "null",
    "1.50",
    "2001-01-01",
    "+.5",
    "é 数",
    "1_0 # ten",
)


@pytest.mark.parametrize("text", UNQUOTED)
def test_text_in_an_own_file_is_taken_as_it_is_written(text: str, tmp_path: Path) -> None:
    written = text.removesuffix(" # ten")

    def read(**files: str) -> StudyConfig:
        for group, content in files.items():
            (tmp_path / f"{group}.yaml").write_text(content)
        config = load([f"{group}={tmp_path / group}.yaml" for group in files])
        assert isinstance(config, StudyConfig)
        return config

    found = read(
        world=f"held_out: 1e-1\nname: {text}\ntasks: {{count: 1_0}}\n",
        ablation=f"name: {text}\nquestion: {text}\nsetting: world.name\nvalues:\n- {text}\n- a\n",
    )
    assert found.world.name == written
    swept = found.ablation
    assert (swept.name, swept.question, swept.values) == (written, written, (written, "a"))
    found = read(
        world=f"# @package world\n<<: {{name: {text}\n}}\n",
        ablation=f"name: a\npoints:\n  b.c:\n    world.name: {text}\n    tuning.steps: 1_0\n",
    )
    assert found.world.name == written
    assert found.ablation.points == {"b.c": {"world.name": written, "tuning.steps": 10}}
    header = "# @package _global_\n"
    study = read(study=f"{header}study: {text}\nseeds: 1_0\nworld:\n  name: {text}\n  held_out: 0.2\n")
    assert (study.study, study.seeds, study.world.name, study.world.held_out) == (written, 10, written, 0.2)


def test_what_is_no_text_in_an_own_file_keeps_its_grammar(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: a\nsetting: tuning.steps\nvalues: [010, 1_000]\n")
    assert load([f"ablation={file}"]).ablation.values == (8, 1000)
    file.write_text("name: 'no'\noptions: {n_jobs: 1_0, text: no, more: 1e2}\n")
    assert load([f"launcher={file}"]).launcher == LauncherConfig("no", {"n_jobs": 10, "text": False, "more": 100.0})
    file.write_text("# @package _global_\nrunner: &a {b: 1}\nseeds: 3\n")
    with pytest.raises(UserError, match="Key 'runner' not in 'StudyConfig'"):
        load([f"study={file}"])
    file.write_text("name: &a 1_0\ntasks: {count: *a}\n")
    assert (load([f"world={file}"]).world.name, load([f"world={file}"]).world.tasks.count) == ("1_0", 10)
    # What refers to itself is no endless work.
    file.write_text("a: &a {<<: *a}\n")
    with pytest.raises(UserError, match="Key 'a' not in 'WorldConfig'"):
        load([f"world={file}"])


def test_the_way_yaml_is_read_is_omegaconfs(tmp_path: Path) -> None:
    words = [
        f"{sign}{word}"
        for word in ("1e5", "1.5e3", "1_0e2", "1.e-3", "2001-01-01", "1:30", "0o8")
        for sign in ("", "-")
    ]
    words += ["no", "~", "0x1f", ".5e+3", ".5e3", "a", "1_000", "010", "inf", ".inf", "1e", "e5"]
    for word in words:
        assert yaml.load(f"a: {word}", Loader=presets._Loader) == OmegaConf.create(f"a: {word}")


ABLATION = "ablation: {name: a, setting: tuning.steps, values: [1, 2]}\nseeds: 7\n"


@pytest.mark.parametrize(
    "before",
    [
        "",
        "\ufeff",
        "---\n",
        "\ufeff---\n",
        "# mine\n---\n",
        "\n--- # mine\n",
        "%YAML 1.1\n---\n",
        "---\r\n",
        "# a\n# b\n",
    ],
    ids=repr,
)
def test_what_an_editor_puts_before_a_header_hides_it_not(before: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(f"{before}# @package _global_\n{ABLATION}".encode())
    config = load([f"ablation={tmp_path}/mine.yaml"])
    assert (config.seeds, config.ablation.values) == (7, (1, 2))
    (tmp_path / "study.yaml").write_bytes(f"{before}# @package _global_\nstudy: mine\nseeds: 5\n".encode())
    config = load([f"study={tmp_path}/study.yaml"])
    assert (config.study, config.seeds) == ("mine", 5)


@pytest.mark.parametrize(
    ("group", "content", "message"),
    [
        (
            "ablation",
            ABLATION,
            ": ablation, seeds is of the whole study; begin the file with the line # @package _global_",
        ),
        ("study", "seeds: 2", ": seeds is of the whole study; begin the file with the line # @package _global_"),
        ("study", "sedes: 2", ": what it sets is of the whole study; begin the file with the line"),
        ("ablation", "", ": there are no settings in it; write them as name: value"),
        ("world", "# nothing\n", ": there are no settings in it; write them as name: value"),
        ("ablation", "- a", ": there are no settings in it; write them as name: value"),
        ("ablation", 'name: ""', ": sweeps nothing; give it a name, and values or points"),
        ("ablation", "question: why?", ": sweeps nothing; give it a name, and values or points"),
        (
            "ablation",
            "name: a\npoints:\n  0.1: {seeds: 1}",
            ': line 3: the name 0.1 is not read as text; quote it, "0.1":',
        ),
        ("ablation", "name: a\npoints: {no: {seeds: 1}}", ': line 2: the name no is not read as text; quote it, "no":'),
        ("ablation", "name: a\npoints: {1e5: {seeds: 1}}", 'the name 1e5 is not read as text; quote it, "1e5":'),
        ("ablation", "name: a\npoints: {0x1: {seeds: 1}}", 'the name 0x1 is not read as text; quote it, "0x1":'),
        ("ablation", "name: a\npoints: {~: {seeds: 1}}", 'the name ~ is not read as text; quote it, "~":'),
        ("world", "name: [a", ": line 1: expected ',' or ']', but got '<stream end>'; it must be YAML"),
        ("world", "name: a\nname: b", ": line 2: found duplicate key name; it must be YAML"),
        ("world", "name: \x01", ": unacceptable character #x0001"),
        ("world", "nme: a", ": Key 'nme' not in 'WorldConfig'; --show lists the settings"),
        ("world", "held_out: much", ": Value 'much' of type 'str' could not be converted to Float"),
    ],
    ids=lambda value: value[:20],
)
def test_what_is_wrong_in_an_own_preset_is_said_of_the_users_file(
    group: str, content: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "it's (1).yaml").write_text(content)
    override = f"{group}={tmp_path}/it's (1).yaml"
    with pytest.raises(UserError) as caught:
        load(["seeds=2", override])
    said = str(caught.value)
    assert said.startswith(override)
    assert message in said
    assert said.count(str(tmp_path)) == 1
    assert "\n" not in said
    assert "own-" not in said


def test_a_file_that_is_no_text_in_utf8_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes("name: é\n".encode("latin-1"))
    for override in (f"world={tmp_path}/mine.yaml", f"world.grammar.source=@{tmp_path}/mine.yaml"):
        with pytest.raises(UserError) as caught:
            load([override])
        assert str(caught.value) == f"{override}: is not text in UTF-8; name a file that can be read"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seeds=1,2", "seeds=1,2: there are several values; give one, or a list: seeds=[1,2]"),
        ("world=quick,small", "world=quick,small: there is no such preset; choose from paper, quick, small"),
        ("world=é", "world=é: there is no such preset; choose from"),
        ("methods=[é]", "methods=[é]: there is a character that only text in quotes can have; write "),
        ("world=nowhere.yaml", "world=nowhere.yaml: there is no such file; write a preset's name or a file's path"),
        (
            "world.grammar.source=@no",
            "world.grammar.source=@no: No such file or directory; name a file that can be read",
        ),
    ],
)
def test_a_fault_is_said_once_and_with_advice_of_ours(override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load([override])
    said = str(caught.value)
    assert said.startswith(message)
    assert said.count(override) == 1
    assert "multirun" not in said


def test_settings_arrive_typed_and_survive_a_round_trip() -> None:
    config = load(["seeds=2", "methods=[dpo]", "method.dpo.gamma=0.5", "world.grammar.branching=[[2,3]]"])
    assert (config.seeds, config.methods, config.method.dpo.gamma) == (2, ("dpo",), 0.5)
    assert config.world.grammar.branching == ((2, 3),)
    assert to_dict(config)["world"]["grammar"]["branching"] == [[2, 3]]
    assert hash(config.world) == hash(load(["world.grammar.branching=[[2,3]]"]).world)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a study that has only begun; its settings are not the usual ones."""
    root = tmp_path_factory.mktemp("begun")
    own = ["seeds=2", "methods=[dpo]", "method.dpo.beta=0.3", "tuning.learning_rate=1e-5"]
    config = load([*own, f"output_dir={root}/o", f"store_dir={root}/s", "world.grammar.branching=[[2,3]]"])
    output.keep_settings(config)
    return output.output_folder(config)


def test_a_study_resumes_with_its_own_settings(begun: Path) -> None:
    config = load([f"resume={begun}"])
    assert (config.study, config.seeds, config.methods) == ("quick", 2, ("dpo",))
    assert (config.method.dpo.beta, config.tuning.learning_rate) == (0.3, 1e-5)
    assert config.world.grammar.branching == ((2, 3),)
    assert output.output_folder(config) == begun
    assert load([f"resume={begun}", "seeds=2", "tuning.learning_rate=1e-5"]) == config


def test_a_study_goes_on_where_its_folder_was_moved_to(
    begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path / "moved" / begun.name
    shutil.copytree(begun, moved)
    config = load([f"resume={moved}"])
    assert output.output_folder(config) == moved
    assert plan(config) == plan(load([f"resume={begun}"]))
    monkeypatch.chdir(moved)
    assert output.output_folder(load(["resume=."])) == moved
    assert output.output_folder(load(["resume=.", "output_dir=there"])) == Path("there") / begun.name


def test_settings_that_change_no_result_may_change_on_resuming(begun: Path) -> None:
    changed = ["checkpoint_seconds=3", "runs_at_once=1", "store_dir=elsewhere"]
    config = load([f"resume={begun}", *changed])
    assert (config.checkpoint_seconds, config.runs_at_once, config.store_dir) == (3.0, 1, "elsewhere")
    assert output.output_folder(config) == begun
    assert plan(config) == plan(load([f"resume={begun}"]))
    assert load([f"resume={begun}", "runs_at_once=null"]).runs_at_once is None
    elsewhere = load([f"resume={begun}", "launcher=joblib", "launcher.options.n_jobs=4", "dry_run=true"])
    assert (elsewhere.launcher, elsewhere.dry_run) == (LauncherConfig("joblib", {"n_jobs": 4}), True)
    assert output.output_folder(elsewhere) == begun
    assert load([f"resume={begun}", "launcher.name=ray"]).launcher == LauncherConfig("ray")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seeds=5", "seeds is 2 there and 5 here; leave it, or start a study of its own without resume"),
        ("method.dpo.beta=0.1", "method.dpo.beta is 0.3 there and 0.1 here; leave it"),
        ("methods=[sft,dpo]", "methods is ['dpo'] there and ['sft', 'dpo'] here; leave it"),
        ("study=small", "study is quick there and small here; leave it"),
        ("world.grammar.branching=[[2,2]]", "world.grammar.branching is [[2, 3]] there and [[2, 2]] here; leave it"),
        ("modl.layers=3", "modl.layers: there is no such setting; did you mean model.layers?"),
        ("zzz=3", "zzz: there is no such setting; --show lists the settings"),
        ("checkpoint_seconds=-1", "checkpoint_seconds=-1.0: must be 0 or more"),
        ("checkpoint_seconds=soon", "checkpoint_seconds=soon: Value 'soon' of type 'str' could not be converted"),
        ("model.width=65", "model.width=65: must be a multiple of heads="),
        ("launcher=cloud", "launcher=cloud: there is no such preset; choose from joblib, local, ray, slurm"),
        ("world=quick", "world=quick: Invalid type assigned: str is not a subclass of WorldConfig"),
        ("seeds=[", "seeds=[: no viable alternative at input '['"),
        ("world.grammar.source=@mine.yaml", "world.grammar.source=@mine.yaml: No such file or directory"),
    ],
    ids=lambda value: value.split("=")[0],
)
def test_what_would_change_a_result_or_cannot_be_is_one_line_on_resuming(
    override: str, message: str, begun: Path
) -> None:
    with pytest.raises(UserError) as caught:
        load([f"resume={begun}", override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [None, b"", b"[1]", b"a: [", b"\xff\xfe\xff", b"zzz: 3", b"seeds: many", b"world: 3"],
    ids=["none", "empty", "list", "broken", "bytes", "unknown", "type", "group"],
)
def test_a_folder_without_a_study_is_one_line(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(UserError) as caught:
        load([f"resume={tmp_path}"])
    assert str(caught.value).startswith(f"resume={tmp_path}: no study's config.yaml (")
    assert str(caught.value).endswith("); name an output folder")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["no", "010", "1:30", "1e5", "a b", "null", "é", "a=b, (c)"])
def test_resuming_reads_a_value_as_any_command_does(value: str, begun: Path) -> None:
    assert load([f"resume={begun}", f"store_dir={value}"]).store_dir == load([f"store_dir={value}"]).store_dir


def test_a_folder_that_would_not_be_written_is_refused(begun: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "renamed"
    shutil.copytree(begun, renamed)
    with pytest.raises(UserError, match=f"this study would be written to {begun.name}; give the folder that name"):
        load([f"resume={renamed}"])


def test_settings_of_other_code_are_refused_with_the_difference(begun: Path, tmp_path: Path) -> None:
    """A study from before a setting was there, or with a value that is no longer taken."""
    settings = yaml.safe_load((begun / "config.yaml").read_text())
    del settings["model"]["remat"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(UserError, match=r"model.remat is None there and False here"):
        load([f"resume={tmp_path}"])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**settings, "seeds": 0}))
    with pytest.raises(UserError, match="seeds=0: must be at least 1"):
        load([f"resume={tmp_path}"])
