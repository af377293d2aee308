"""Whatever the order of promotions, rollbacks and deletions: one champion above its floors, or it is said why not."""

import contextlib
import random

import pytest
from decided import ALIAS, Make, put

from components import tracking
from components.base.errors import MuraError
from components.promote.decision import decide
from components.promote.taking_back import take_back
from components.tracking import audit_alias, model_registry

# The fourth is below its floor.
AUROCS = (0.7, 0.75, 0.8, 0.52, 0.85)
STEPS = 12


def step(draw: random.Random) -> None:
    """Do one thing that people do."""
    there = [each for each in range(1, len(AUROCS) + 1) if model_registry.version("mura", each)]
    what = draw.choice(("promote", "promote", "promote", "first", "rollback", "rollback to", "delete", "move"))
    number = draw.choice(there) if there else 1
    client = tracking.connect()
    if what == "delete" and len(there) > 2:
        client.delete_model_version("mura", str(number))
    elif what == "move":
        client.set_registered_model_alias("mura", ALIAS, str(number))
    elif what.startswith("rollback"):
        take_back("mura", ALIAS, number if what.endswith("to") else None, f"as drawn: {draw.random()}")
    elif model := model_registry.version("mura", number):
        put(model, first=what == "first", candidate=number if draw.random() < 0.5 else None)


def check() -> None:
    """There is one champion, which passes its floors and is the record's, or the difference is said."""
    standing = audit_alias.standing("mura", ALIAS)
    held = model_registry.alias_holder("mura", ALIAS)
    moves = standing.audit.moves(ALIAS)
    if moves and moves[0].action == "found":
        # A person gave the alias to a version before anything was decided.
        moves = moves[1:]
    if standing.audit.champion(ALIAS) is not None:
        assert standing.gone or held == standing.audit.champion(ALIAS)
    for each in moves:
        assert each.question is not None
        alone = each.question.model_copy(update={"champion": None, "reference": None, "first": True, "gone": None})
        assert decide(alone.model_copy(update={"taken_back": None})).promote
    for each in standing.audit.entries:
        if each.action != "found":
            assert each.question is not None
            assert decide(each.question) == each.decision


@pytest.mark.longest
@pytest.mark.parametrize("seed", range(6))
def test_no_history_leaves_two_champions_or_one_below_its_floors(seed: int, make_version: Make) -> None:
    draw = random.Random(seed)
    for number, auroc in enumerate(AUROCS):
        make_version(auroc, f"net{number}")
    for _ in range(STEPS):
        # What cannot be done is refused.
        with contextlib.suppress(MuraError):
            step(draw)
        check()
