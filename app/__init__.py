"""The web app and the command line: the only package where engine and storage meet.

Packages import downwards only: ``cli``, ``site``, ``pages``, ``sharing``, ``web``, then what the
pages are about, then ``formats`` and ``host``. No tensor and no SQL is here.
"""
