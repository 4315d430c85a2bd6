"""The names that transcripts use. Each is one word, and no word stands in two lists."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


CHARACTERS = _words(
    "Adrik Bela Corin Dorthe Edda Falk Gwenna Hollis Ingrid Jorun Kelda Lorcan Mara Nyra Osric Petra Quill Rowan Sable Tamsin "
    "Ulric Vesna Wilmar Xanthe Ysolde Zoran Alric Brenna Cassia Delwyn Elowen Fenna Garrick Hedda Isolde Jasper"
)
SPELLS = _words(
    "Ember Frost Gale Quake Thorn Veil Beacon Torrent Cinder Lull Mirage Bramble Spark Hush Tempest Glimmer Snare Radiance "
    "Shatter Mend Ward Whirl Nettle Drift Blight Halo Surge Wither Anchor Prism"
)
SKILLS = _words(
    "Stealth Insight Arcana Athletics Survival Persuasion Deception History Medicine Nature Perception Religion Acrobatics "
    "Intimidation Performance Investigation"
)
CREATURES = _words(
    "goblin wolf ogre wraith spider bandit troll harpy skeleton ghoul basilisk kobold drake mimic cultist golem hydra imp "
    "manticore owlbear"
)
PLACES = _words("bridge cellar market tower shrine harbor mill crypt orchard quarry tavern library gate ruin marsh")
THINGS = _words("torches ropes maps lanterns apples arrows candles blankets keys coins barrels feathers shells")
