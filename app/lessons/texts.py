"""The texts that the lessons measure on: written for them, so that a class sees the same."""

from __future__ import annotations

# Long enough for attention to have something to leave out; each comes back to a name or a
# number from its beginning.
PASSAGES: dict[str, str] = {
    "lighthouse": (
        "Mira Okafor keeps the lighthouse at Port Selwyn. Every evening at six she climbs the "
        "one hundred and twelve steps, lights the lamp, and writes the weather in a blue "
        "notebook. On Mondays a small boat brings bread, oil and letters. Nobody else lives on "
        "the island. When the storm came in March, the boat did not arrive for nine days, and "
        "the lamp nearly went out. At last a fisherman called across the water and asked who "
        "kept the light. She answered that her name was Mira Okafor, and that this was Port "
        "Selwyn."
    ),
    "recipe": (
        "For the lentil soup you need two onions, three carrots, a cup of red lentils, a spoon "
        "of cumin and the juice of one lemon. Chop the onions and fry them slowly in oil until "
        "they are soft. Add the carrots and the cumin and stir for a minute. Then pour in a "
        "litre of water and the lentils, and let everything cook for twenty minutes. Taste it, "
        "add salt, and only at the very end squeeze in the juice of the lemon. Serve the lentil "
        "soup with bread."
    ),
    "comet": (
        "The comet Zelinka was first seen in 1911 by a schoolteacher in Brno. It returns every "
        "fifty-six years, passes close to the sun, and grows a tail that can be seen without a "
        "telescope. Astronomers study its ice because it is older than the Earth. In 1967 a "
        "small probe flew past it and measured water, dust and carbon. The next visit was "
        "expected in 2023, and people in Brno stood on their roofs to wait for the comet "
        "Zelinka."
    ),
}

# Long enough for a verdict on a painted schedule.
PAINTED = f"{PASSAGES['lighthouse']}\n\n{PASSAGES['comet']}"

# One step each: what comes next?
BEGINNINGS: dict[str, str] = {
    "capital": "The capital of France is",
    "keeper": "The lighthouse keeper climbed the",
    "count": "One, two, three, four,",
    "door": "She opened the door and saw a",
}


# Questions of the recorded story, in its order.
STORY_QUESTIONS = ("lamp", "bridge", "horse")
