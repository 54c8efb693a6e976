"""What only the maintainers of this project run: bundling weights, pages of results and settings.

No command of `adios` leads here.
"""
