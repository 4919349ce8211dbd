"""Templates as they are read, and what an emulator gets of them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from mesh.cloudformation.emulator import fitted
from mesh.cloudformation.template import Template, TemplateError


def template(tmp_path: Path, text: str) -> Template:
    file = tmp_path / "template.yaml"
    file.write_text(text)
    return Template.read(file)


SHORT = """
Parameters:
  Size: {Type: String, Default: small}
  Zones: {Type: CommaDelimitedList, Default: ""}
Conditions:
  IsLarge: !Equals [!Ref Size, large]
  IsSmall: !Not [!Condition IsLarge]
  HasZones: !Not [!Equals [!Join ["", !Ref Zones], ""]]
  IsBoth: !And [!Condition IsLarge, !Condition HasZones]
  IsEither: !Or [!Condition IsLarge, !Condition HasZones]
Resources:
  Always: {Type: A}
  Large: {Type: A, Condition: IsLarge, Properties: {Name: !GetAtt Always.Arn.Part, Since: 2026-01-01}}
  Small: {Type: A, Condition: IsSmall}
  Both: {Type: A, Condition: IsBoth}
  Either: {Type: A, Condition: IsEither}
Outputs:
  Arn: {Value: !GetAtt Always.Arn, Export: {Name: authmesh-a-Arn}}
  Other: {Value: !ImportValue authmesh-b-Arn}
"""


@pytest.mark.parametrize(("values", "made"), [
    ({}, {"Always", "Small"}),
    ({"Size": "large"}, {"Always", "Large", "Either"}),
    ({"Zones": "a,b"}, {"Always", "Small", "Either"}),
    ({"Size": "large", "Zones": "a"}, {"Always", "Large", "Both", "Either"}),
])  # fmt: skip
def test_conditions_decide_what_is_made(tmp_path: Path, values: dict[str, str], made: set[str]) -> None:
    assert template(tmp_path, SHORT).made(values).keys() == made


def test_short_functions_are_read_as_long_ones_and_dates_as_text(tmp_path: Path) -> None:
    read = template(tmp_path, SHORT)
    assert read.resources["Large"]["Properties"] == {
        "Name": {"Fn::GetAtt": ["Always", "Arn.Part"]},
        "Since": "2026-01-01",
    }
    assert (set(read.exports), set(read.imports)) == ({"authmesh-a-Arn"}, {"authmesh-b-Arn"})


def test_what_has_no_default_is_missing_until_it_is_given(tmp_path: Path) -> None:
    read = template(tmp_path, "Parameters: {A: {Type: String}, B: {Type: String, Default: ''}}\nResources: {}")
    assert read.missing({}) == ["A"]
    assert read.missing({"A": "x"}) == []


@pytest.mark.parametrize("text", ["[", "- a", "Parameters: {}", "\x00"])
def test_a_file_that_is_no_template_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(TemplateError, match=r"template\.yaml is not a template"):
        template(tmp_path, text)


def test_buckets_get_their_names_written_out_and_nothing_else_changes(tmp_path: Path) -> None:
    text = (
        "Resources:\n  B:\n    Type: AWS::S3::Bucket\n    Properties:\n"
        '      BucketName: !Sub "authmesh-a-${AWS::AccountId}-${AWS::Region}"\n'
        '      Other: !Sub "${AWS::AccountId}"\n'
    )
    named = template(tmp_path, text).named("123456789012", "eu-west-1")
    assert named.text() == text.replace(
        '!Sub "authmesh-a-${AWS::AccountId}-${AWS::Region}"', '"authmesh-a-123456789012-eu-west-1"'
    )
    assert named.resources["B"]["Properties"] == {
        "BucketName": "authmesh-a-123456789012-eu-west-1",
        "Other": {"Fn::Sub": "${AWS::AccountId}"},
    }


def test_an_emulator_gets_what_it_can_make_and_what_refers_to_it(tmp_path: Path) -> None:
    resources: dict[str, Any] = {
        "Kept": {"Type": "A", "DependsOn": ["Gone", "Base"]},
        "Base": {"Type": "A", "Properties": {"At": {"Fn::ImportValue": "there"}}},
        "Gone": {"Type": "B"},
        "ByRef": {"Type": "A", "Properties": {"X": {"Ref": "Gone"}}},
        "ByAttribute": {"Type": "A", "Properties": {"X": [{"Fn::GetAtt": ["ByRef", "Arn"]}]}},
        "BySub": {"Type": "A", "Properties": {"X": {"Fn::Sub": "a ${Gone.Arn}"}}},
        "ByImport": {"Type": "A", "Properties": {"X": {"Fn::ImportValue": "absent"}}},
        "OwnName": {"Type": "A", "Properties": {"X": {"Fn::Sub": ["${Gone}", {"Gone": "mine"}]}}},
        "Attribute": {"Type": "A", "Properties": {"X": {"Fn::GetAtt": ["Base", "MasterUserSecret.SecretArn"]}}},
    }
    outputs = {"A": {"Value": {"Ref": "Kept"}}, "B": {"Value": {"Ref": "ByRef"}}}
    whole = template(tmp_path, yaml.safe_dump({"Transform": "M", "Resources": resources, "Outputs": outputs}))
    left, gone = fitted(whole, frozenset({"B"}), frozenset({"there"}))
    assert gone == ["ByAttribute", "ByImport", "ByRef", "BySub", "Gone"]
    assert left.resources.keys() == {"Kept", "Base", "OwnName", "Attribute"}
    assert left.resources["Kept"]["DependsOn"] == ["Base"]
    assert left.resources["Attribute"]["Properties"]["X"] == "no-MasterUserSecret.SecretArn-here"
    assert left.body["Outputs"].keys() == {"A"}
    assert "Transform" not in left.body
