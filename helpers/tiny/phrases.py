"""How each sound class is put into words: its subject and its verbs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Phrase:
    """How one sound class is put into words: a subject and (present, gerund) verb pairs, the usual pair first."""

    subject: str
    verbs: tuple[tuple[str, str], ...]
    plural: bool = False

    def present(self, verb: int = 0) -> str:
        return f"{self.subject} {self.verbs[verb][0]}"

    def gerund(self, verb: int = 0) -> str:
        return f"{self.subject} {self.verbs[verb][1]}"

    def progressive(self, verb: int = 0) -> str:
        return f"{self.subject} {'are' if self.plural else 'is'} {self.verbs[verb][1]}"

    def clauses(self) -> list[str]:
        """Every clause this class can be put into."""
        return [form(verb) for verb in range(len(self.verbs)) for form in (self.present, self.gerund, self.progressive)]


PHRASES: dict[str, Phrase] = {
    "dog": Phrase("a dog", (("barks", "barking"), ("yelps", "yelping"))),
    "cat": Phrase("a cat", (("meows", "meowing"), ("cries", "crying"))),
    "bird": Phrase("a bird", (("chirps", "chirping"), ("tweets", "tweeting"))),
    "cow": Phrase("a cow", (("moos", "mooing"), ("bellows", "bellowing"))),
    "cricket": Phrase("crickets", (("chirp", "chirping"), ("buzz", "buzzing")), plural=True),
    "bee": Phrase("a bee", (("buzzes", "buzzing"), ("hums", "humming"))),
    "rain": Phrase("rain", (("falls", "falling"), ("pours", "pouring"))),
    "wind": Phrase("wind", (("blows", "blowing"), ("howls", "howling"))),
    "thunder": Phrase("thunder", (("rumbles", "rumbling"), ("roars", "roaring"))),
    "stream": Phrase("water", (("flows", "flowing"), ("gurgles", "gurgling"))),
    "engine": Phrase("an engine", (("idles", "idling"), ("runs", "running"))),
    "horn": Phrase("a car horn", (("honks", "honking"), ("beeps", "beeping"))),
    "train": Phrase("a train whistle", (("blows", "blowing"), ("sounds", "sounding"))),
    "helicopter": Phrase("a helicopter", (("flies", "flying"), ("hovers", "hovering"))),
    "clock": Phrase("a clock", (("ticks", "ticking"), ("clicks", "clicking"))),
    "knock": Phrase("someone", (("knocks on a door", "knocking on a door"), ("taps on a door", "tapping on a door"))),
    "phone": Phrase("a telephone", (("rings", "ringing"), ("jingles", "jingling"))),
    "siren": Phrase("a siren", (("wails", "wailing"), ("blares", "blaring"))),
    "alarm": Phrase("a smoke alarm", (("beeps", "beeping"), ("goes off", "going off"))),
    "bell": Phrase("a church bell", (("tolls", "tolling"), ("rings", "ringing"))),
    "piano": Phrase("a piano", (("plays", "playing"), ("plays a tune", "playing a tune"))),
    "guitar": Phrase("a guitar", (("is strummed", "being strummed"), ("plays", "playing"))),
    "drums": Phrase("drums", (("beat", "beating"), ("pound", "pounding")), plural=True),
    "speech": Phrase("a man", (("speaks", "speaking"), ("talks", "talking"))),
    "laugh": Phrase("a woman", (("laughs", "laughing"), ("giggles", "giggling"))),
    "whistle": Phrase("a person", (("whistles", "whistling"), ("whistles a tune", "whistling a tune"))),
    "applause": Phrase("a crowd", (("applauds", "applauding"), ("claps", "clapping"))),
    "frog": Phrase("a frog", (("croaks", "croaking"), ("ribbits", "ribbiting"))),
    "sheep": Phrase("a sheep", (("bleats", "bleating"), ("baas", "baaing"))),
    "owl": Phrase("an owl", (("hoots", "hooting"), ("calls", "calling"))),
    "horse": Phrase("a horse", (("gallops", "galloping"), ("trots", "trotting"))),
    "drip": Phrase("a tap", (("drips", "dripping"), ("drips into a sink", "dripping into a sink"))),
    "laser": Phrase("a toy laser", (("fires", "firing"), ("zaps", "zapping"))),
    "saw": Phrase("a saw", (("cuts wood", "cutting wood"), ("saws", "sawing"))),
    "ball": Phrase("a ball", (("bounces", "bouncing"), ("bounces on the floor", "bouncing on the floor"))),
    "violin": Phrase("a violin", (("plays slowly", "playing slowly"), ("is played", "being played"))),
}
"""How people put each sound class into words; the keys are those of `helpers.tiny.sounds.SYNTHESIZERS`."""
