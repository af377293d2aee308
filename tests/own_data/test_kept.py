"""What is kept of patients is common words, or nothing."""

import pytest

from components.own_data import kept
from components.own_data.part_names import PartNames
from components.own_data.pseudonyms import Key, number


@pytest.mark.parametrize(
    ("said", "decade"),
    [
        ("045Y", "40-49"), ("45", "40-49"), ("009Y", "0-9"), ("018M", "0-9"), ("130M", "10-19"), ("003D", "0-9"),
        ("060W", "0-9"), ("089Y", "80-89"), ("090Y", "90 or more"), ("104", "90 or more"), ("151Y", ""), ("", ""),
        ("old", ""), ("-5", ""), ("٤٥", ""), ("45Y ", "40-49"), ("4 5", ""),
    ],
)  # fmt: skip
def test_ages_are_decades(said: str, decade: str) -> None:
    assert kept.age(said) == decade


@pytest.mark.parametrize(
    ("birth", "study", "decade"),
    [
        ("19530417", "20191123", "60-69"), ("19591124", "20191123", "50-59"), ("19591123", "20191123", "60-69"),
        ("20191123", "20191123", "0-9"), ("20191124", "20191123", ""), ("19001301", "20191123", ""),
        ("", "20191123", ""), ("1953", "20191123", ""), ("19230101", "20191123", "90 or more"),
    ],
)  # fmt: skip
def test_an_age_follows_from_two_dates(birth: str, study: str, decade: str) -> None:
    assert kept.age_between(birth, study) == decade


def test_only_what_enough_patients_have_is_common() -> None:
    values = [(f"p{patient}", "AGFA") for patient in range(5)] + [("p0", "Miller")] * 9
    assert kept.common(values) == {"AGFA"}
    assert kept.common(values[1:]) == set()


def test_makers_are_the_same_however_they_are_written() -> None:
    written = ("Philips Medical-Systems", "PHILIPS MEDICAL SYSTEMS ", "philips  medical systems.")
    assert {kept.CLEAN["manufacturer"](said) for said in written} == {"PHILIPS MEDICAL SYSTEMS"}
    assert [kept.CLEAN["sex"](said) for said in ("f", "Male", "O", "W", "x", "")] == [
        *("female", "male", "other", "female", "", "")
    ]
    assert kept.CLEAN["view_position"](" ap ") == "AP"


def test_a_file_may_say_only_what_is_known() -> None:
    names = PartNames()
    assert [names.of_file(said) for said in ("HAND", "KNEE", "UPPERARM", "MEIER", "")] == [
        *("hand", "knee", "humerus", "", "")
    ]
    # Who writes the CSV chooses the words.
    assert [names.of_row(said) for said in ("Lower leg", "thumb", "Müller")] == ["lower_leg", "finger", ""]


def test_a_pseudonym_depends_on_the_key_and_the_kind() -> None:
    key = Key(b"k" * 32)
    # HMAC-SHA256 of "patient\0P1", computed with OpenSSL.
    assert key.hash("patient", "P1") == "0d1b868aaf00a59d88669f5bbc23ca325e0a35e13b599fd55985fe528b86675e"
    assert number(key.hash("patient", "P1")) == f"{0x0D1B868AAF00A59D % 10**15:015}"
    assert len({key.hash("patient", "1"), key.hash("study", "1"), Key(b"l" * 32).hash("patient", "1")}) == 3
    assert key.hash("study", "a", "bc") != key.hash("study", "ab", "c")
    assert key.hash("study", "") == key.hash("study", "a", "") == ""
    # A name of a file may be no UTF-8.
    assert key.hash("file", "a\udcff")
