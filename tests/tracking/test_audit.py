import pytest
from decided import ALIAS, Make, put

from components import tracking
from components.base.errors import DataRefused, UsageError
from components.promote.decision import decide
from components.promote.taking_back import take_back
from components.signing import keys
from components.tracking import audit, audit_alias, model_registry
from components.tracking.audit import Audit, Entry


def kept(now: Audit, why: str = "") -> Entry:
    """An entry that moves nothing."""
    last = now.entries[-1]
    return audit.entry(
        now, ALIAS, "kept", why=why, after=now.champion(ALIAS), question=last.question, decision=None, evidence={}
    )


def held() -> dict[str, int]:
    """The aliases in the registry."""
    return {alias: number for number, names in model_registry.aliases("mura").items() for alias in names}


def told() -> list[tuple[int, str, int | None]]:
    """Number, action and champion of the entries that count."""
    return [(each.number, each.action, each.after) for each in audit.read("mura")]


def test_an_entry_says_who_when_and_why(make_version: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "kim")
    made = put(make_version(0.8), reason="the first of all")
    (entry,) = audit.read("mura")
    assert entry == made.entry
    assert (entry.number, entry.action, entry.who, entry.why) == (1, "promoted", "kim", "the first of all")
    assert (entry.before, entry.after) == (None, 1)
    assert entry.when.endswith("+00:00")
    assert entry.question == made.question
    assert entry.decision == made.decision


@pytest.mark.long
def test_of_two_entries_at_the_same_time_the_lower_number_counts(make_version: Make) -> None:
    put(make_version(0.8))
    seen = audit.look("mura")
    one, other = kept(seen, "one"), kept(seen, "other")
    assert audit.append(seen, one) is not None
    assert audit.append(seen, other) is None
    now = audit.look("mura")
    assert (now.void, now.last, now.entries[-1].why) == ((3,), 3, "one")
    # The next one names the last that counts, and not the void one.
    again = audit.append(now, kept(now, "again"))
    assert again is not None
    assert again.number == 4


@pytest.mark.long
def test_a_lost_answer_makes_no_second_entry(make_version: Make) -> None:
    put(make_version(0.8))
    seen = audit.look("mura")
    entry = kept(seen)
    assert audit.append(seen, entry) == audit.append(seen, entry)
    assert audit.look("mura").last == 2


@pytest.mark.long
@pytest.mark.parametrize("number", [1, 2])
def test_a_deleted_entry_breaks_the_record(number: int, make_version: Make) -> None:
    put(make_version(0.8))
    for why in ("one", "other"):
        now = audit.look("mura")
        audit.append(now, kept(now, why))
    tracking.connect().delete_model_version("mura-audit", str(number))
    with pytest.raises(DataRefused, match=rf"record of mura, mura-audit, is broken: entry {number} was deleted"):
        audit.read("mura")
    # The number is not given again.
    assert audit.look("mura").last == 3


def test_a_changed_entry_breaks_the_record(make_version: Make) -> None:
    put(make_version(0.8))
    client = tracking.connect()
    text = client.get_model_version("mura-audit", "1").tags[audit.ENTRY]
    client.set_model_version_tag("mura-audit", "1", audit.ENTRY, text.replace('"after":1', '"after":2'))
    with pytest.raises(DataRefused, match=r"is broken: entry 1: not as .* signed it: entry\.json was changed"):
        audit.read("mura")


@pytest.mark.long
def test_an_entry_of_another_key_breaks_the_record(make_version: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    put(make_version(0.8))
    monkeypatch.setenv(keys.TRUSTED_KEYS, keys.public_of(keys.drawn(), "another").pem.decode())
    with pytest.raises(DataRefused, match=r"is broken: entry 1: signed by the key .* not trusted here"):
        audit.read("mura")


@pytest.mark.long
def test_an_older_entry_written_again_is_void(make_version: Make) -> None:
    put(make_version(0.7))
    put(make_version(0.8, "vgg19"))
    client = tracking.connect()
    old = client.get_model_version("mura-audit", "1")
    client.create_model_version("mura-audit", source=old.source, run_id=old.run_id, tags=old.tags)
    assert audit.look("mura").void == (3,)
    assert audit.champion("mura", ALIAS) == 2


@pytest.mark.long
def test_first_begins_anew_after_a_break(make_version: Make) -> None:
    put(make_version(0.7))
    better = make_version(0.8, "vgg19")
    put(better)
    tracking.connect().delete_model_version("mura-audit", "1")
    with pytest.raises(DataRefused, match="entry 1 was deleted"):
        put(better)
    made = put(better, first=True, reason="the record was damaged")
    assert made.entry is not None
    assert made.entry.action == "first"
    assert told() == [(3, "first", 2)]
    assert held()[ALIAS] == 2


@pytest.mark.long
def test_the_aliases_follow_an_entry_whose_writer_was_killed(make_version: Make) -> None:
    put(make_version(0.7))
    second = make_version(0.8, "vgg19")
    now = audit.look("mura")
    question = put(second, dry_run=True).question
    entry = audit.entry(
        now, ALIAS, "promoted", why="", after=2, question=question, decision=decide(question), evidence={}
    )
    assert audit.append(now, entry) is not None
    assert held() == {ALIAS: 1}
    # Running again has the result of the run that was killed.
    made = put(second)
    assert (made.decision.outcome, made.entry and made.entry.number) == ("promoted", 2)
    assert held() == {ALIAS: 2, audit_alias.PREVIOUS: 1}
    assert audit.look("mura").unmoved == frozenset()


@pytest.mark.long
def test_promoting_again_writes_nothing(make_version: Make) -> None:
    better, worse = make_version(0.8), make_version(0.7, "vgg19")
    first = put(better)
    assert put(better) == first._replace(again=True)
    kept_out = put(worse)
    assert put(worse) == kept_out
    assert told() == [(1, "promoted", 1), (2, "kept", 1)]


@pytest.mark.long
def test_a_champion_from_before_the_record_is_written_down(make_version: Make) -> None:
    model_registry.set_alias(make_version(0.7), ALIAS)
    made = put(make_version(0.8, "vgg19"))
    assert told() == [(1, "found", 1), (2, "promoted", 2)]
    assert audit.read("mura")[0].why == "mura version 1 was the champion before decisions were recorded."
    assert made.question.champion is not None
    assert made.question.reference == made.question.champion


@pytest.mark.long
@pytest.mark.parametrize(
    "what",
    ["deleted", *(pytest.param(each, marks=pytest.mark.longest) for each in ("moved", "alias deleted"))],
)
def test_a_champion_that_is_gone_is_not_replaced_by_itself(what: str, make_version: Make) -> None:
    put(make_version(0.75))
    champion, worse = make_version(0.8, "vgg19"), make_version(0.7, "wide")
    put(champion)
    client = tracking.connect()
    if what == "deleted":
        client.delete_model_version("mura", "2")
    elif what == "moved":
        client.set_registered_model_alias("mura", ALIAS, "3")
    else:
        client.delete_registered_model_alias("mura", ALIAS)
    before = held()
    made = put(worse)
    assert made.decision.outcome == "refused"
    assert what.split()[-1] in " ".join(made.decision.reasons)
    assert held() == before
    taken = take_back("mura", ALIAS, None, "somebody interfered")
    assert (taken.current and taken.current.version, held()[ALIAS]) == (1, 1)
    assert audit.champion("mura", ALIAS) == 1


@pytest.mark.long
def test_taking_back_gives_the_alias_to_the_champion_before(make_version: Make) -> None:
    put(make_version(0.7))
    second = make_version(0.8, "vgg19")
    put(second)
    made = take_back("mura", ALIAS, None, "wrong on elbows")
    assert made.entry is not None
    assert (made.entry.action, made.entry.before, made.entry.after) == ("rolled back", 2, 1)
    assert made.question.back
    assert made.decision.reasons == ("Nobody is compared: an earlier champion gets the alias back.",)
    assert "--first" not in made.entry.text
    assert held() == {ALIAS: 1, audit_alias.PREVIOUS: 2}
    # A scheduled run does not undo it; a person may.
    again = put(second)
    assert again.decision.outcome == "refused"
    assert "took VGG-19 version 2 back" in " ".join(again.decision.reasons)
    assert put(second, candidate=2).decision.outcome == "promoted"
    assert held() == {ALIAS: 2, audit_alias.PREVIOUS: 1}


@pytest.mark.long
def test_taking_back_is_no_way_around_the_gate(make_version: Make) -> None:
    put(make_version(0.8))
    make_version(0.7, "vgg19")
    for number, words in ((2, "version 2 never was the champion"), (1, "is the champion already")):
        with pytest.raises(UsageError, match=words):
            take_back("mura", ALIAS, number, "why not")
    with pytest.raises(UsageError, match="no earlier champion"):
        take_back("mura", ALIAS, None, "why not")


@pytest.mark.long
def test_a_dry_run_writes_nothing(make_version: Make) -> None:
    made = put(make_version(0.8), dry_run=True)
    assert (made.decision.outcome, made.entry) == ("promoted", None)
    assert audit.look("mura").last == 0
    assert held() == {}
