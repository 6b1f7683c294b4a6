"""``python -m archwright`` is the ``archwright`` command."""

from archwright.studies.command_line import main

if __name__ == "__main__":
    main()
