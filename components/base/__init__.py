"""What every room stands on.

base/
    errors.py        errors that are told in one line, and the exit codes
    files.py         files and directories that are written whole or not at all; their digests
    documents.py     JSON and YAML of others, in bounded memory
    code.py          the code that can change a step's result, and its digest
    provenance.py    code revision and environment, for the card
    part.py          one of N shares of a step's work
    step.py          what a step takes, and what it declares besides its signature
    names.py         names of candidates, architectures and body parts
    words.py         numbers and lists of things in sentences
    progress.py      bars, log lines, durations
    workers.py       work for all cores, in order, in bounded memory
    patience.py      how long a service that does not answer is waited for
    answers.py       how much an HTTP server may answer, and how slowly
    variables.py     environment variables of the project
    space.py         room on a disk: refused before a long write, and named when it runs out
    freed_memory.py  memory that was freed, given back to the operating system
    surroundings.py  settings from outside that would change a result, and what is used instead
    places.py        places and keys of a pod, from files into the environment
    urls.py          addresses, and the secrets in them
    terminal.py      what is printed: harmless, and without secrets; console.py: the same for tables
"""
