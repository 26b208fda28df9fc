"""The engine: a frozen language model decoded step by step under a compute schedule.

Knows no UI and no database: it returns frozen records and yields frozen events.
"""
