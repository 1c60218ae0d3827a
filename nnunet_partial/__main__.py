"""Run the command as `python -m nnunet_partial`, where the folder of programs is not on the PATH."""

from nnunet_partial.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
