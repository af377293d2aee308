"""What runs inside a step: artifacts, parameters, helpers, steps and the command line."""
