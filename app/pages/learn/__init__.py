"""The Learn page: short lessons, each with a live experiment, and the glossary."""
