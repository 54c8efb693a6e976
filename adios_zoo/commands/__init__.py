"""The commands of ``adios``, by what they are about.  Each is thin; the work is in the module that it names."""
