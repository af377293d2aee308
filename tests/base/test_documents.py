"""JSON and YAML that others wrote: however they are, reading ends with an error of theirs, in little memory."""

import os
from pathlib import Path

import pytest
import yaml

from components.base.documents import TooLarge, content, json_of, yaml_all, yaml_of

DEEP = 200_000


@pytest.mark.parametrize("text", ["[" * DEEP, '{"a":' * DEEP, "[" * DEEP + "]" * DEEP, b"[" * DEEP])
def test_json_that_is_nested_too_deeply_is_no_bug(text: str | bytes) -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        json_of(text)


@pytest.mark.parametrize("text", ["[" * 20_000, "{a: " * 20_000])
def test_yaml_that_is_nested_too_deeply_is_no_bug(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match="nested too deeply"):
        yaml_of(text)


def test_what_others_wrote_is_read() -> None:
    assert json_of(b'{"a": [1, 2.5, null]}') == yaml_of("a: [1, 2.5, null]") == {"a": [1, 2.5, None]}


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    file = tmp_path / "card.json"
    file.write_bytes(b"12345")
    assert content(file, 5) == b"12345"
    with pytest.raises(TooLarge):
        content(file, 4)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "card.json")
    with pytest.raises(TooLarge):
        content(tmp_path / "card.json")


def test_fast_yaml_that_is_nested_too_deeply_does_not_end_the_process() -> None:
    for text in ("[" * DEEP, "a:\n" + "".join(f"{' ' * level}- \n" for level in range(300))):
        with pytest.raises(yaml.YAMLError):
            yaml_all(text)
    assert yaml_all("a: [1]\n---\n- b\n") == [{"a": [1]}, ["b"]]
