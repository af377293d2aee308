"""The choices: frozen types that refuse unknown keys, one module per section of params.yaml.

One module per section, so that a new choice of one step is no change to another.
"""
