from pathlib import Path

import pandas as pd
import pytest

from components.validate.pieces import pieces, words_on_disk

WORDS = pd.Series(["a", None, "", "é", "wrist"] * 3, dtype="str")


@pytest.mark.parametrize("rows", [1, 4, 15, 100])
def test_a_table_is_read_in_pieces_whose_index_goes_on(rows: int, tmp_path: Path) -> None:
    table = pd.DataFrame({"word": WORDS, "number": pd.array(range(15), "Int64"), "other": 1})
    table.to_parquet(tmp_path / "a.parquet", index=False, row_group_size=7)
    found = list(pieces(tmp_path / "a.parquet", ["word", "number"], rows))
    assert max(map(len, found)) <= rows
    pd.testing.assert_frame_equal(pd.concat(found), table[["word", "number"]])


def test_an_empty_table_is_one_empty_piece(tmp_path: Path) -> None:
    pd.DataFrame({"word": WORDS, "other": 1})[:0].to_parquet(tmp_path / "a.parquet", index=False)
    (found,) = pieces(tmp_path / "a.parquet", ["word"])
    assert found.empty
    assert list(found.columns) == ["word"]


@pytest.mark.parametrize("cuts", [[], [0], [3], [1, 2, 14], [15]])
def test_words_on_disk_are_the_words_that_were_added(cuts: list[int], tmp_path: Path) -> None:
    with words_on_disk(tmp_path) as words:
        for start, end in zip([0, *cuts], [*cuts, 15], strict=True):
            words.add(WORDS[start:end])
        column = words.column()
    # Nothing is left, and the words are still there.
    assert not list(tmp_path.iterdir())
    pd.testing.assert_series_equal(column, WORDS)


def test_no_words_on_disk_are_an_empty_column(tmp_path: Path) -> None:
    with words_on_disk(tmp_path) as words:
        words.add(WORDS[:0])
        words.add(pd.Series([None, None], dtype=object))
        assert words.column().isna().tolist() == [True, True]
    with words_on_disk(tmp_path) as words:
        assert words.column().empty
