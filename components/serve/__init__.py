"""`mura serve`: a registered version behind an address, for programs and for people.

running.py      the command: a verified version, and what is started with it
verifier.py     a process that verifies the directory of a version
source.py       where versions come from while the server runs: an alias that is followed
succession.py   another version takes the place of the one that answers
listening.py    uvicorn, with a graceful end; addresses.py: names under which it is asked
application.py  what is asked at which path, and how it is answered
guard.py        what holds of every request: hosts, origins, bodies, headers of answers
question.py     what was asked: studies and their views, from a form
inference.py    the same by the open inference protocol, version 2
desk.py         the way of a question: decoded, put to the network, answered, logged
decoders.py     processes that decode pictures, as their parent sees them
decoder.py      one of them
frames.py       what is said between the two
logbook.py      one line for each prediction, without pixels and without identity
movement.py     `mura drift`: what was asked, compared with what was learned
static/         the page
"""
