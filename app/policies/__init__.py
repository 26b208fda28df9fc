"""The library of policies: names, files in and out, uses, measured figures."""
