"""The Inspect page: any text, token by token, under several schedules."""
