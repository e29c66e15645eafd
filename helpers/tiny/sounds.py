"""Procedural sounds: one function per sound class, each a short piece of classical synthesis.

Every function takes a seeded ``numpy.random.Generator`` and a duration in seconds, and returns mono float64
samples at `SAMPLING_RATE`, of any scale (the scene mixer sets the level). Nothing here reads a file, and all
randomness comes from the generator, so the same seed gives the same sound everywhere.

The recipes are the textbook ones: additive synthesis for bells and horns, source and filter for voices,
shaped noise for weather, damped resonances for knocks, Karplus and Strong's plucked string ("Digital Synthesis of
Plucked-String and Drum Timbres", Computer Music Journal 7(2), 1983) for the guitar.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from helpers.profiles import SAMPLING_RATE

Rng = np.random.Generator


# ----------------------------------------------------------------------------------------------- building blocks
def _seconds(duration: float) -> np.ndarray:
    """Time axis in seconds, shape ``(samples,)``."""
    return np.arange(int(round(duration * SAMPLING_RATE))) / SAMPLING_RATE


def _shape_spectrum(signal: np.ndarray, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Filter by multiplying the spectrum with ``gain(frequency in Hz)``: zero phase, no recursion to drift."""
    size = len(signal)
    if size == 0:
        return signal
    padded = 1 << (size + 256).bit_length()  # a power of two is fast, and room at the end keeps the tail from wrapping
    spectrum = np.fft.rfft(signal, padded)
    return np.fft.irfft(spectrum * gain(np.fft.rfftfreq(padded, 1 / SAMPLING_RATE)), padded)[:size]


def _band(low: float, high: float) -> Callable[[np.ndarray], np.ndarray]:
    """A soft band between ``low`` and ``high`` Hz (fourth-order slopes)."""
    return lambda f: 1 / np.sqrt((1 + (low / np.maximum(f, 1e-9)) ** 8) * (1 + (f / high) ** 8))


def _formants(*peaks: tuple[float, float, float]) -> Callable[[np.ndarray], np.ndarray]:
    """Resonances of a throat or a box: sum of bells given as (centre in Hz, width in Hz, gain)."""
    return lambda f: 0.02 + sum(gain / (1 + ((f - centre) / width) ** 2) for centre, width, gain in peaks)


def _noise(rng: Rng, duration: float, low: float, high: float) -> np.ndarray:
    """Band-limited Gaussian noise with unit RMS."""
    samples = _shape_spectrum(rng.standard_normal(len(_seconds(duration))), _band(low, high))
    return samples / (np.sqrt(np.mean(samples**2)) + 1e-12)


def _swell(size: int, attack: float, release: float) -> np.ndarray:
    """A level envelope with raised-cosine edges; ``attack`` and ``release`` in seconds."""
    envelope = np.ones(size)
    for edge, at_start in ((attack, True), (release, False)):
        count = min(int(edge * SAMPLING_RATE), size // 2)
        if count:
            ramp = 0.5 - 0.5 * np.cos(np.pi * np.arange(count) / count)
            if at_start:
                envelope[:count] *= ramp
            else:
                envelope[size - count :] *= ramp[::-1]
    return envelope


def _voice(pitch: np.ndarray, gain: Callable[[np.ndarray], np.ndarray], tilt: float = 1.0) -> np.ndarray:
    """Harmonics of a gliding pitch (Hz per sample), weighted by the resonances ``gain`` and by ``1 / k ** tilt``."""
    table = np.append(gain(np.arange(7400.0)), 0.0)  # one entry a Hz; nothing above 7.4 kHz, so nothing aliases
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLING_RATE
    out = np.zeros(len(pitch))
    # sin((k + 1) x) = 2 cos(x) sin(k x) - sin((k - 1) x): one multiplication a harmonic instead of one sine
    twice_cosine, previous, current = 2 * np.cos(phase), np.zeros(len(pitch)), np.sin(phase)
    for k in range(1, min(int(7400 / max(pitch.min(), 40.0)), 60) + 1):
        out += table[np.minimum(k * pitch, 7400).astype(int)] / k**tilt * current
        previous, current = current, twice_cosine * current - previous
    return out


def _ring(duration: float, partials: list[tuple[float, float, float]]) -> np.ndarray:
    """Struck object: partials given as (frequency in Hz, level, decay time to 1/e in seconds)."""
    t = _seconds(duration)
    return sum(level * np.exp(-t / decay) * np.sin(2 * np.pi * frequency * t) for frequency, level, decay in partials)


def _add(track: np.ndarray, piece: np.ndarray, at: float, level: float = 1.0) -> None:
    """Mix ``piece`` into ``track`` from second ``at`` on, cut at the end of the track."""
    start = int(at * SAMPLING_RATE)
    if start < len(track):
        piece = piece[: len(track) - start]
        track[start : start + len(piece)] += level * piece


def _repeat(rng: Rng, duration: float, piece: Callable[[], np.ndarray], every: tuple[float, float],
            start: float = 0.0, level: tuple[float, float] = (0.8, 1.0)) -> np.ndarray:
    """Place fresh copies of ``piece()`` one after another, onset to onset between ``every[0]`` and ``every[1]`` s."""
    track = np.zeros(len(_seconds(duration)))
    at = start
    while at < duration - 0.05:
        _add(track, piece(), at, rng.uniform(*level))
        at += rng.uniform(*every)
    return track


# ------------------------------------------------------------------------------------------------------- animals
def dog(rng: Rng, duration: float) -> np.ndarray:
    """Barks: a short harmonic yell, pitch up and down, through a mouth-shaped filter, with breath noise."""
    base = rng.uniform(280, 520)
    mouth = _formants((1.7 * base + 300, 260, 1.0), (1900, 400, 0.5), (3000, 600, 0.2))

    def bark() -> np.ndarray:
        length = rng.uniform(0.13, 0.2)
        x = _seconds(length) / length
        pitch = base * (0.8 + 0.75 * np.sin(np.pi * x**0.7)) * rng.uniform(0.95, 1.05)
        level = np.minimum(x / 0.08, 1) * (1 - x) ** 0.8
        return level * (_voice(pitch, mouth, 0.4) + 0.35 * _noise(rng, length, 600, 4000))

    return _repeat(rng, duration, bark, (0.28, 0.5))


def cat(rng: Rng, duration: float) -> np.ndarray:
    """Meows: a slow pitch arch whose mouth opens and closes, so that the resonance glides up and back."""
    base = rng.uniform(430, 620)

    def meow() -> np.ndarray:
        length = rng.uniform(0.65, 0.95)
        x = _seconds(length) / length
        pitch = base * (0.9 + 0.35 * np.sin(np.pi * np.minimum(x * 1.15, 1)) - 0.2 * x)
        pitch = pitch * (1 + 0.012 * np.sin(2 * np.pi * 7 * x * length))
        opening = 900 + 1300 * np.sin(np.pi * x) ** 1.5
        phase = 2 * np.pi * np.cumsum(pitch) / SAMPLING_RATE
        tone = sum(np.exp(-(((k * pitch - opening) / 650) ** 2)) * np.sin(k * phase) for k in range(1, 8))
        return (tone + 0.25 * np.sin(phase)) * _swell(len(x), 0.12, 0.25)

    return _repeat(rng, duration, meow, (1.05, 1.35))


def bird(rng: Rng, duration: float) -> np.ndarray:
    """Chirps: pure tones that sweep between 2.5 and 6 kHz in a tenth of a second, in small phrases."""
    base = rng.uniform(2900, 4300)
    direction = rng.choice([-1.0, 1.0])

    def phrase() -> np.ndarray:
        track = np.zeros(len(_seconds(0.6)))
        for number in range(rng.integers(2, 5)):
            length = rng.uniform(0.05, 0.1)
            x = _seconds(length) / length
            pitch = base * (1 + direction * rng.uniform(0.12, 0.3) * (x - 0.5) + 0.06 * np.sin(2 * np.pi * 3 * x))
            chirp = np.sin(2 * np.pi * np.cumsum(pitch) / SAMPLING_RATE) * np.sin(np.pi * x) ** 1.3
            _add(track, chirp, number * 0.125)
        return track

    return _repeat(rng, duration, phrase, (0.6, 0.85))


def cow(rng: Rng, duration: float) -> np.ndarray:
    """A moo: a long, low, rich voice that opens from nasal to full and sinks at the end."""
    base = rng.uniform(115, 165)

    def moo() -> np.ndarray:
        length = min(rng.uniform(1.2, 1.6), duration)
        x = _seconds(length) / length
        pitch = base * (0.85 + 0.3 * np.sin(np.pi * np.minimum(1.3 * x, 1)) - 0.12 * x)
        throat = _formants((320, 110, 1.0), (720, 160, 0.6), (2300, 400, 0.08))
        return _voice(pitch, throat, 0.3) * _swell(len(x), 0.18, 0.3)

    return _repeat(rng, duration, moo, (1.7, 2.0))


def cricket(rng: Rng, duration: float) -> np.ndarray:
    """Crickets: a steady 4.5 to 5.5 kHz tone in quick groups of pulses."""
    carrier, rate = rng.uniform(4500, 5500), rng.uniform(2.6, 3.4)
    t = _seconds(duration)
    beat = (t * rate) % 1
    pulses = np.clip(np.sin(2 * np.pi * rng.uniform(32, 40) * t), 0, None) ** 0.7
    return np.sin(2 * np.pi * carrier * t) * pulses * (beat < 0.5)


# ------------------------------------------------------------------------------------------------------- weather
def rain(rng: Rng, duration: float) -> np.ndarray:
    """Rain: a steady high hiss and hundreds of separate drops, each a tiny damped click."""
    hiss = _noise(rng, duration, 900, 7000)
    drops = np.zeros(len(hiss))
    for _ in range(int(duration * rng.uniform(90, 140))):
        pitch = rng.uniform(1800, 5500)
        drop = _ring(0.012, [(pitch, 1.0, 0.002)])
        _add(drops, drop, rng.uniform(0, duration), rng.uniform(1.0, 5.0))
    return hiss + drops


def wind(rng: Rng, duration: float) -> np.ndarray:
    """Wind: low noise in slow gusts, with a whistling resonance that rises and falls with the gust."""
    t = _seconds(duration)
    rate = rng.uniform(0.35, 0.7)
    gust = 0.55 + 0.45 * np.sin(2 * np.pi * (rate * t + rng.uniform()))
    low = _noise(rng, duration, 60, 350)
    howl = _noise(rng, duration, 20, 60)
    pitch = rng.uniform(380, 520) * (1 + 0.35 * (gust - 0.5))
    whistle = howl * np.sin(2 * np.pi * np.cumsum(pitch) / SAMPLING_RATE)
    return low * (0.35 + gust) + 0.9 * whistle * gust**2


def thunder(rng: Rng, duration: float) -> np.ndarray:
    """Thunder: a broadband crack, then a rumble below 150 Hz that rolls in several waves and dies away."""
    t = _seconds(duration)
    crack = _noise(rng, duration, 150, 3500) * np.exp(-t / 0.09)
    rumble = _noise(rng, duration, 25, 140)
    rolls = sum(
        rng.uniform(0.5, 1.0) * np.exp(-(((t - at) / rng.uniform(0.18, 0.35)) ** 2))
        for at in rng.uniform(0.1, max(duration * 0.8, 0.2), size=5)
    )
    return 1.3 * crack + rumble * (rolls + np.exp(-t / 0.5)) * 1.2


# ------------------------------------------------------------------------------------------------------ vehicles
def engine(rng: Rng, duration: float) -> np.ndarray:
    """An engine: explosions at 32 to 50 a second through an exhaust pipe, the speed wavering a little."""
    t = _seconds(duration)
    rate = rng.uniform(32, 50) * (1 + 0.06 * np.sin(2 * np.pi * rng.uniform(0.3, 0.8) * t + rng.uniform(0, 6)))
    pipe = _formants((90, 40, 1.0), (210, 60, 0.7), (480, 120, 0.3), (1100, 300, 0.1))
    rattle = _noise(rng, duration, 200, 2500) * (0.5 + 0.5 * np.sin(2 * np.pi * np.cumsum(rate) / SAMPLING_RATE)) ** 4
    return _voice(rate, pipe, 0.1) + 0.12 * rattle


def horn(rng: Rng, duration: float) -> np.ndarray:
    """A car horn: two reedy tones a third apart, in hard-edged honks."""
    low = rng.uniform(380, 450)
    reed = _formants((1200, 700, 1.0), (2600, 800, 0.5))

    def honk() -> np.ndarray:
        length = rng.uniform(0.25, 0.55)
        flat = np.ones(len(_seconds(length)))
        return (_voice(low * flat, reed, 0.5) + _voice(1.26 * low * flat, reed, 0.5)) * _swell(len(flat), 0.01, 0.02)

    return _repeat(rng, duration, honk, (0.65, 0.85), level=(0.95, 1.0))


def train(rng: Rng, duration: float) -> np.ndarray:
    """A train whistle: a breathy chord of four pipes that swells in and sags at the end."""
    root = rng.uniform(290, 350)

    def blow() -> np.ndarray:
        length = min(rng.uniform(1.1, 1.5), duration)
        x = _seconds(length) / length
        sag = 1 - 0.04 * np.clip((x - 0.8) / 0.2, 0, 1) - 0.03 * np.clip(1 - x / 0.1, 0, 1)
        pipes = sum(
            np.sin(2 * np.pi * np.cumsum(root * ratio * sag * k) / SAMPLING_RATE) / k
            for ratio in (1.0, 1.19, 1.5, 1.78) for k in (1, 2, 3)
        )
        return (pipes + 0.5 * _noise(rng, length, 800, 5000)) * _swell(len(x), 0.1, 0.2)

    return _repeat(rng, duration, blow, (1.6, 1.9))


def helicopter(rng: Rng, duration: float) -> np.ndarray:
    """A helicopter: blades chop 11 to 14 times a second, each chop a thump and a swish, over turbine whine."""
    t = _seconds(duration)
    phase = (rng.uniform(11, 14) * t) % 1
    chop = np.exp(-phase / 0.22)
    thump = np.sin(2 * np.pi * rng.uniform(70, 95) * t)
    return chop * (0.9 * _noise(rng, duration, 100, 1600) + thump) + 0.06 * np.sin(2 * np.pi * rng.uniform(1900, 2300) * t)


# ---------------------------------------------------------------------------------------------------------- home
def clock(rng: Rng, duration: float) -> np.ndarray:
    """A clock: tick and tock, two dry clicks of slightly different pitch, evenly spaced."""
    step = rng.uniform(0.3, 0.42)
    high = rng.uniform(2500, 3200)
    track = np.zeros(len(_seconds(duration)))
    for number in range(int(duration / step) + 1):
        pitch = high if number % 2 == 0 else high * 0.78
        _add(track, _ring(0.04, [(pitch, 1.0, 0.005), (pitch * 1.83, 0.5, 0.003)]), 0.02 + number * step)
    return track


def knock(rng: Rng, duration: float) -> np.ndarray:
    """Knocks on a door: groups of three or four dull wooden thuds."""
    box = rng.uniform(160, 240)

    def group() -> np.ndarray:
        track = np.zeros(len(_seconds(0.95)))
        for number in range(rng.integers(3, 5)):
            thud = _ring(0.12, [(box, 1.0, 0.022), (box * 2.3, 0.6, 0.014), (box * 4.1, 0.35, 0.007)])
            thud[:160] += 0.6 * _noise(rng, 0.01, 500, 3000) * np.linspace(1, 0, 160)
            _add(track, thud, number * 0.2)
        return track

    return _repeat(rng, duration, group, (1.05, 1.3))


def phone(rng: Rng, duration: float) -> np.ndarray:
    """An old telephone: a hammer beats two small bells 20 to 25 times a second, in rings with pauses."""
    low, rate = rng.uniform(1250, 1500), rng.uniform(20, 25)
    t = _seconds(duration)
    phase = (t * rate) % 1
    second = ((t * rate / 2) % 1) < 0.5
    bells = sum(
        np.exp(-phase / 0.5) * level * np.sin(2 * np.pi * np.where(second, low, low * 1.22) * ratio * t)
        for ratio, level in ((1.0, 1.0), (2.41, 0.6), (3.9, 0.3))
    )
    ringing = ((t + rng.uniform(0, 0.1)) % 1.1) < 0.75
    return bells * ringing


# -------------------------------------------------------------------------------------------------------- alarms
def siren(rng: Rng, duration: float) -> np.ndarray:
    """A siren: a reedy tone that wails between about 600 and 1500 Hz and back, over and over."""
    t = _seconds(duration)
    wave = 0.5 - 0.5 * np.cos(2 * np.pi * (rng.uniform(0.7, 1.1) * t + rng.uniform(0, 0.3)))
    pitch = rng.uniform(560, 680) * 2.3**wave
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLING_RATE
    return np.sin(phase) + 0.35 * np.sin(2 * phase) + 0.2 * np.sin(3 * phase)


def alarm(rng: Rng, duration: float) -> np.ndarray:
    """A smoke alarm: piercing beeps at 3 kHz, on and off at a fixed pace."""
    t = _seconds(duration)
    period = rng.uniform(0.28, 0.36)
    on = np.convolve((t % period < 0.55 * period).astype(float), np.ones(80) / 80, mode="same")
    pitch = rng.uniform(2900, 3300)
    return on * (np.sin(2 * np.pi * pitch * t) + 0.15 * np.sin(2 * np.pi * 2 * pitch * t))


def bell(rng: Rng, duration: float) -> np.ndarray:
    """A church bell: the classic partials (hum, prime, minor third, fifth, octave), struck and left to ring."""
    prime = rng.uniform(330, 470)
    ratios = [(0.5, 0.6, 1.8), (1.0, 1.0, 1.2), (1.19, 0.7, 0.9), (1.5, 0.4, 0.7), (2.0, 0.8, 0.6),
              (2.66, 0.4, 0.35), (3.01, 0.3, 0.25), (4.1, 0.25, 0.15)]

    def strike() -> np.ndarray:
        return _ring(2.5, [(prime * ratio, level, decay) for ratio, level, decay in ratios])

    return _repeat(rng, duration, strike, (1.1, 1.4))


# --------------------------------------------------------------------------------------------------------- music
_SCALE = np.array([0, 2, 4, 7, 9, 12, 14, 16])
"""Major pentatonic scale in semitones: any order of its notes sounds like a tune."""


def piano(rng: Rng, duration: float) -> np.ndarray:
    """A piano: single notes of a pentatonic tune, bright at the hammer and dull as they fade."""
    root = 220 * 2 ** (rng.integers(0, 8) / 12)

    def note() -> np.ndarray:
        pitch = root * 2 ** (rng.choice(_SCALE) / 12)
        return _ring(1.2, [(pitch * k * np.sqrt(1 + 0.0004 * k * k), 1 / k**1.4, 0.7 / k**0.8) for k in range(1, 9)])

    return _repeat(rng, duration, note, (0.24, 0.36), level=(0.7, 1.0))


def guitar(rng: Rng, duration: float) -> np.ndarray:
    """A guitar: strummed chords of five plucked strings (Karplus and Strong), one string after another."""
    root = 98 * 2 ** (rng.integers(0, 8) / 12)

    def string(pitch: float, length: float) -> np.ndarray:
        period = int(SAMPLING_RATE / pitch)
        # Each turn of the loop averages neighbours: a power of one filter, so all turns come from one transform.
        spectrum = np.fft.rfft(rng.uniform(-1, 1, period))
        turn = 0.4985 * (1 + np.exp(-2j * np.pi * np.arange(len(spectrum)) / period))
        turns = np.arange(int(length * SAMPLING_RATE / period) + 1)
        return np.fft.irfft(spectrum * turn ** turns[:, None], period, axis=1).ravel()

    def strum() -> np.ndarray:
        track = np.zeros(len(_seconds(0.9)))
        for number, semitone in enumerate((0, 7, 12, 16, 19)):
            _add(track, string(root * 2 ** (semitone / 12), 0.8), number * 0.022)
        return track * _swell(len(track), 0.0, 0.1)

    return _repeat(rng, duration, strum, (0.42, 0.6))


def drums(rng: Rng, duration: float) -> np.ndarray:
    """Drums: bass drum and snare in turn, a hi-hat on every half beat."""
    beat = rng.uniform(0.36, 0.5)
    track = np.zeros(len(_seconds(duration)))
    for number in range(int(2 * duration / beat) + 1):
        at = number * beat / 2
        t = _seconds(0.2)
        if number % 4 == 0:
            _add(track, np.exp(-t / 0.07) * np.sin(2 * np.pi * (55 * t + 6 * (1 - np.exp(-t / 0.03)))), at, 1.6)
        elif number % 4 == 2:
            snare = np.exp(-t / 0.05) * (_noise(rng, 0.2, 800, 6000) * 0.6 + np.sin(2 * np.pi * 190 * t))
            _add(track, snare, at)
        hat = _noise(rng, 0.05, 5500, 7800) * np.exp(-_seconds(0.05) / 0.012)
        _add(track, hat, at, 0.35)
    return track


# -------------------------------------------------------------------------------------------------------- people
_VOWELS = [(730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240)]
"""Formants of five English vowels of men, in Hz (Peterson and Barney, JASA 24, 1952, table II)."""


def speech(rng: Rng, duration: float) -> np.ndarray:
    """A man talks: syllables of changing vowels, four to five a second, with a falling melody and short pauses."""
    base = rng.uniform(95, 135)
    track = np.zeros(len(_seconds(duration)))
    at, in_phrase = 0.0, 0
    while at < duration - 0.08:
        length = rng.uniform(0.14, 0.24)
        x = _seconds(length) / length
        first, second, third = _VOWELS[rng.integers(len(_VOWELS))]
        throat = _formants((first, 70, 1.0), (second, 100, 0.6), (third, 150, 0.25))
        pitch = base * (1.18 - 0.05 * in_phrase + 0.06 * np.sin(np.pi * x))
        syllable = _voice(pitch, throat, 0.5) * _swell(len(x), 0.03, 0.06)
        if rng.uniform() < 0.5:
            size = int(0.04 * SAMPLING_RATE)
            syllable[:size] += 0.5 * _noise(rng, 0.04, 2500, 6500)[:size] * np.hanning(size)
        _add(track, syllable, at, rng.uniform(0.7, 1.0))
        at += length * 0.95
        in_phrase += 1
        if in_phrase > rng.integers(4, 8):
            at, in_phrase = at + rng.uniform(0.1, 0.2), 0
    return track


def whistle(rng: Rng, duration: float) -> np.ndarray:
    """A person whistles: one pure tone that steps through a tune around 1 to 2 kHz, with glides and vibrato."""
    t = _seconds(duration)
    root = rng.uniform(950, 1150)
    step = rng.uniform(0.25, 0.36)
    notes = rng.choice(_SCALE[:6], size=int(duration / step) + 2)
    position = t / step
    index = position.astype(int)
    glide = np.clip((position - index) / 0.25, 0, 1)
    semitones = notes[np.maximum(index - 1, 0)] * (1 - glide) + notes[index] * glide
    pitch = root * 2 ** (semitones / 12) * (1 + 0.008 * np.sin(2 * np.pi * 5.5 * t))
    gap = 1 - 0.8 * np.exp(-(((position - index) / 0.06) ** 2))
    breath = 0.04 * _noise(rng, duration, 1000, 5000)
    return gap * (np.sin(2 * np.pi * np.cumsum(pitch) / SAMPLING_RATE) + breath)


def applause(rng: Rng, duration: float) -> np.ndarray:
    """A crowd claps: many hands, each with its own pace and pitch, each clap a burst of 8 ms around 1 to 2 kHz."""
    track = np.zeros(len(_seconds(duration)))
    for _ in range(9):
        pace, at, pitch = rng.uniform(0.2, 0.32), rng.uniform(0, 0.3), rng.uniform(900, 1900)
        loud = rng.uniform(0.5, 1.0)
        while at < duration:
            length = 0.03
            clap = _noise(rng, length, 0.7 * pitch, 1.5 * pitch) * np.exp(-_seconds(length) / 0.006)
            _add(track, clap, at, loud)
            at += pace * rng.uniform(0.9, 1.1)
    return track


SYNTHESIZERS: dict[str, Callable[[Rng, float], np.ndarray]] = {
    function.__name__: function
    for function in (dog, cat, bird, cow, cricket, rain, wind, thunder, engine, horn, train, helicopter, clock, knock,
                     phone, siren, alarm, bell, piano, guitar, drums, speech, whistle, applause)
}
"""Sound class -> function. The order is fixed: it numbers the classes in the encoder's warm-up."""


def synthesize(label: str, rng: Rng, duration: float) -> np.ndarray:
    """One sound of class ``label``.

    Args:
        label: a key of `SYNTHESIZERS`.
        rng: where all randomness comes from.
        duration: seconds.

    Returns:
        float64 samples, shape ``(round(duration * 16000),)``, RMS 0.1 over the loud part, edges faded by 10 ms.

    Raises:
        ValueError: ``label`` is not a known class.
    """
    if label not in SYNTHESIZERS:
        raise ValueError(f"There is no sound class {label!r}; the classes are {', '.join(SYNTHESIZERS)}.")
    samples = SYNTHESIZERS[label](rng, duration)
    # A clock is silent most of the time: measure the level where it sounds, or it would come out deafening.
    power = np.sort(samples**2)[::-1][: max(len(samples) // 4, 1)]
    samples = 0.1 * samples / (np.sqrt(power.mean()) + 1e-12)
    return samples * _swell(len(samples), 0.01, 0.01)
