"""`python -m mdsens` is the command `mdsens`, of this interpreter and no other."""

from mdsens.cli import main

if __name__ == "__main__":
    main()
