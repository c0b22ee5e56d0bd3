"""The rules that a definition makes itself: commands, and the goss files that it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core import serialization
from harness.core.errors import DefinitionError
from harness.model.definition import ImageDefinition, load_definition
from harness.model.definition_rules import ControlPlaneImage
from harness.model.rules import GossResource, OwnCheck

from .test_definition import GOOD

CHECKS = r"""
[[check]]
name = "the time zone is UTC"
command = "date +%Z"
expect = "^UTC$"
cause = "tzdata is missing"

[[check]]
name = "no core dumps"
command = '''
test "$(sysctl -n kernel.core_pattern)" = ""
'''
"""
GOSS = "user:\n  nova: {exists: true, uid: {and: [{gt: 50}, {lt: 99999}]}}\n"


def read(folder: Path, checks: str = CHECKS, goss: str = GOSS, named: str = '["goss.yaml"]') -> ImageDefinition:
    (folder / "mine").mkdir(exist_ok=True)
    (folder / "mine" / "playbook.yml").touch()
    text = GOOD.replace("[expect]\n", f"[expect]\ngoss = {named}\n")
    (folder / "mine" / "image.toml").write_text(text + checks, "utf-8")
    (folder / "mine" / "goss.yaml").write_text(goss, "utf-8")
    return load_definition(folder / "mine")


def test_a_definition_has_checks_and_goss_files(tmp_path: Path) -> None:
    definition = read(tmp_path)

    first, second = definition.checks
    assert first == OwnCheck(
        name="the time zone is UTC", command="date +%Z", expect="^UTC$", cause="tzdata is missing"
    )  # fmt: skip
    assert (second.expect, second.cause) == ("", "")
    assert second.command.strip().startswith("test ")
    assert definition.check_names == ("the time zone is UTC", "no core dumps")
    (nova,) = definition.goss
    assert nova == GossResource(
        file="goss.yaml", kind="user", key="nova", about="nova",
        wanted={"exists": True, "uid": {"and": [{"gt": 50}, {"lt": 99999}]}},
    )  # fmt: skip
    assert definition.goss_names == ("goss.yaml user:nova",)
    assert serialization.load(ImageDefinition, serialization.dump(definition)) == definition


def test_two_files_may_have_the_same_resource(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "more.yaml").write_text(GOSS, "utf-8")

    definition = read(tmp_path, named='["goss.yaml", "more.yaml"]')

    assert definition.goss_names == ("goss.yaml user:nova", "more.yaml user:nova")


@pytest.mark.parametrize(
    ("old", "new", "key", "sentence"),
    [
        ('name = "the time zone is UTC"\n', "", "check[0].name", "is missing"),
        ('"the time zone is UTC"', '""', "check[0].name", "up to 100 letters"),
        ('"the time zone is UTC"', '"file:/etc/x"', "check[0].name", "up to 100 letters"),
        ('"the time zone is UTC"', '"no core dumps"', "check[1].name", "is the name of two checks; give each its own"),
        ('command = "date +%Z"\n', "", "check[0].command", "is missing"),
        ('"date +%Z"', '" "', "check[0].command", "write a command for sh(1)"),
        ('"^UTC$"', '"("', "check[0].expect", "is not a regular expression"),
        ('"^UTC$"', '""', "check[0].expect", "or leave it out"),
        ('"tzdata is missing"', "1", "check[0].cause", "is not valid"),
        ("cause =", "reason =", "check[0].reason", "is not a known key"),
        ("[[check]]", "[[checks]]", "checks", "did you mean check?"),
        ("\n[[check]]", "\n[check]", "check", "write [[check]]"),
    ],
)
def test_a_mistake_in_a_check_is_named(tmp_path: Path, old: str, new: str, key: str, sentence: str) -> None:
    checks = CHECKS.replace(old, new) if new != "\n[check]" else '[check]\nname = "x"\n'
    assert checks != CHECKS

    with pytest.raises(DefinitionError) as caught:
        read(tmp_path, checks)

    assert caught.value.key == key
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("named", "problem"),
    [
        ('["none.yaml"]', "none.yaml does not exist; put the goss file beside"),
        ('["../goss.yaml"]', "../goss.yaml is not a file's name"),
        ('"goss.yaml"', "is not valid"),
    ],
)
def test_a_goss_file_that_is_not_there_is_named(tmp_path: Path, named: str, problem: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        read(tmp_path, named=named)

    assert caught.value.key == "expect.goss"
    assert problem in str(caught.value)


def test_a_mistake_in_a_goss_file_names_that_file(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError) as caught:
        read(tmp_path, goss="user: {nova: {uid: 1}}")

    assert caught.value.file == str(tmp_path / "mine" / "goss.yaml")
    assert caught.value.key == "user.nova.exists"


def with_control_plane(folder: Path, value: str) -> ImageDefinition:
    """A definition with that value, beside one that is called ``cloud``."""
    for name in ("mine", "cloud"):
        (folder / name).mkdir()
        (folder / name / "playbook.yml").touch()
        (folder / name / "image.toml").write_text(GOOD, "utf-8")
    text = GOOD.replace("[expect]\n", f"[expect]\ncontrol_plane = {value}\n")
    (folder / "mine" / "image.toml").write_text(text, "utf-8")
    return load_definition(folder / "mine")


def test_a_definition_names_the_image_of_its_control_plane(tmp_path: Path) -> None:
    definition = with_control_plane(tmp_path, '"cloud"')

    assert definition.control_plane == ControlPlaneImage(image="cloud")
    assert definition.control_planes == ("cloud",)
    assert serialization.load(ImageDefinition, serialization.dump(definition)) == definition


def test_a_control_plane_may_be_prebuilt(tmp_path: Path) -> None:
    definition = with_control_plane(tmp_path, '{ image = "cloud", artifacts = "/srv/cloud" }')

    assert definition.control_plane == ControlPlaneImage(image="cloud", artifacts=Path("/srv/cloud"))


@pytest.mark.parametrize(
    ("value", "key", "remedy"),
    [
        ('"clouds"', "expect.control_plane", "name one that is there"),
        ("5", "expect.control_plane", "for example"),
        ('{ artifacts = "/srv/cloud" }', "expect.control_plane.image", "for example"),
        ('{ image = "cloud", artifacts = "cloud" }', "expect.control_plane.artifacts", "whole path"),
        ('{ image = "cloud", path = "/srv" }', "expect.control_plane.path", "not a known key"),
    ],
)
def test_what_is_wrong_with_a_control_plane_is_named(tmp_path: Path, value: str, key: str, remedy: str) -> None:
    with pytest.raises(DefinitionError, match=f"{key}: .*{remedy}"):
        with_control_plane(tmp_path, value)
