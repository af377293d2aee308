"""Signatures of directories: who made them, and whether they are as they were made.

keys.py       whose signatures are believed here, and the key that signs here
directory.py  sign a directory, verify one
"""
