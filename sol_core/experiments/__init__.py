"""Small measurements on the loaded model, each about a second: what the lessons show."""
