import pytest

from components.base.words import count, in_words, with_article


@pytest.mark.parametrize(
    ("number", "thing", "told"),
    [
        (0, "image", "0 images"),
        (1, "image", "1 image"),
        (1_576, "image", "1,576 images"),
        (1, "study", "1 study"),
        (2, "study", "2 studies"),
        (2, "exact copy", "2 exact copies"),
    ],
)
def test_a_number_of_things_reads_well(number: int, thing: str, told: str) -> None:
    assert count(number, thing) == told


def test_a_list_of_things_reads_well() -> None:
    assert [in_words("abc"[:length]) for length in (1, 2, 3)] == ["a", "a and b", "a, b and c"]


def test_an_article_fits_its_word() -> None:
    assert [with_article(word) for word in ("Manifest", "Evaluation", "index.json")] == [
        "a Manifest",
        "an Evaluation",
        "an index.json",
    ]
