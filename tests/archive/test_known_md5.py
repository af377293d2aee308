from pathlib import Path

import pytest

from components.archive import known_md5
from components.base.errors import DataRefused

MD5, OTHER = "a5" * 16, "0b" * 16


def test_a_link_into_dvcs_cache_is_known_by_its_target(tmp_path: Path) -> None:
    stored = tmp_path / "cache/files/md5/a5" / MD5[2:]
    stored.parent.mkdir(parents=True)
    stored.write_bytes(b"x")
    (tmp_path / "MURA.zip").symlink_to(stored)
    assert known_md5.of_place(str(tmp_path / "MURA.zip"), remote=False) == MD5
    assert known_md5.of_place(str(tmp_path), remote=False) is None


TOLD: dict[str, tuple[str | None, str, str | None, str | None]] = {
    "nothing": (MD5, "", None, MD5),
    "a name": (None, "spring", None, None),
    "an md5": (None, MD5, None, MD5),
    "that of a directory": (None, f"{MD5}.dir", None, f"{MD5}.dir"),
    "the ETag, which need be no md5": (None, OTHER, OTHER, None),
    "the ETag of an upload in parts": (None, f"{OTHER}-2", f"{OTHER}-2", None),
    "the md5 of an upload in parts": (MD5, MD5, f"{OTHER}-2", MD5),
    "the ETag and an address that says more": (MD5, OTHER, OTHER, MD5),
    "an ETag where there is none": (None, f"{OTHER}-2", None, None),
}


@pytest.mark.parametrize(("named", "digest", "etag", "expected"), TOLD.values(), ids=TOLD)
def test_what_is_told_is_an_md5_or_an_etag_or_a_name(
    named: str | None, digest: str, etag: str | None, expected: str | None
) -> None:
    assert known_md5.told("s3://b/x.zip", named, digest, etag) == expected


@pytest.mark.parametrize(
    ("named", "digest", "etag", "why"),
    [
        (None, f"{OTHER}-2", f"{MD5}-2", f"expected the object of ETag {OTHER}-2, found {MD5}-2"),
        (None, f"{OTHER}-2", MD5, f"expected the object of ETag {OTHER}-2, found {MD5}"),
        (MD5, OTHER, None, f"expected the archive of md5 {OTHER}, found md5 {MD5}"),
        (MD5, f"{MD5}.dir", None, f"expected the archive of md5 {MD5}.dir, found md5 {MD5}"),
    ],
)
def test_another_object_than_the_one_told_is_refused_before_it_is_read(
    named: str | None, digest: str, etag: str | None, why: str
) -> None:
    with pytest.raises(DataRefused) as refusal:
        known_md5.told("s3://b/x.zip", named, digest, etag)
    assert why in str(refusal.value)
    assert "\n" not in str(refusal.value)
