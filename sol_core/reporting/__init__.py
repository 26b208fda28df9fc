"""Results as people read them: verdicts in one sentence, tables and figures of notebooks."""
