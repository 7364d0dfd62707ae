"""The parts of the benchmark, one file each.

A part is a function of the file's name, (settings, bench) -> its figures as plain data. Beside it
stand `tables(result)`, what a person sees of them, and where it draws `pictures(result)`.
"""
