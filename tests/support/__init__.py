"""Stand-ins, samples and tiny models that tests of several packages share.

No test is here. What the tests of one package share lies beside them.
"""
