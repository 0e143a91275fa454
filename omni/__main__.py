"""`python -m omni`, which is the command `omni`."""

from omni.cli import program

if __name__ == "__main__":
    program()
