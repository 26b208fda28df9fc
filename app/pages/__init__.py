"""The rooms and the views of the Lab, one package each; every one has its ``PAGE``."""
