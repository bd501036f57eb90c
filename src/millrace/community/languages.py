"""Names of languages as people write them, and the codes that they mean. Pure."""

# ISO 639-1 codes with the names that people use: in English, and in the language itself.
NAMES = """
ar arabic العربية | bg bulgarian български | bn bengali bangla বাংলা | ca catalan català
cs czech čeština | cy welsh cymraeg | da danish dansk | de german deutsch | el greek ελληνικά
en english | es spanish español castellano | et estonian eesti | eu basque euskara
fa persian farsi فارسی | fi finnish suomi | fr french français francais | ga irish gaeilge
gl galician galego | he hebrew עברית | hi hindi हिन्दी | hr croatian hrvatski | hu hungarian magyar
hy armenian հայերեն | id indonesian | is icelandic íslenska | it italian italiano
ja japanese 日本語 | ka georgian ქართული | ko korean 한국어 | lt lithuanian lietuvių
lv latvian latviešu | mk macedonian македонски | ms malay melayu | mt maltese malti
nb bokmål | nl dutch nederlands flemish | nn nynorsk | no norwegian norsk | pl polish polski
pt portuguese português portugues | ro romanian română | ru russian русский | sk slovak slovenčina
sl slovenian slovene slovenščina | sq albanian shqip | sr serbian српски srpski
sv swedish svenska | sw swahili kiswahili | ta tamil தமிழ் | te telugu తెలుగు | th thai ไทย
tr turkish türkçe | uk ukrainian українська | ur urdu اردو | vi vietnamese | zh chinese mandarin 中文
"""


def _table() -> dict[str, str]:
    """Return every name with the code that it means."""
    found: dict[str, str] = {}
    for line in NAMES.replace("\n", "|").split("|"):
        if line.strip():
            code, *names = line.split()
            found |= dict.fromkeys(names, code)
    return found


CODES = _table()

NAMED = {code: name.capitalize() for name, code in reversed(CODES.items())}
"""The English name of each code: the first that stands behind it."""


def code_of(text: str) -> str:
    """Return the code that a name of a language means; empty where the name is not known."""
    return CODES.get(text.strip().casefold(), "")


def primary(tag: str) -> str:
    """Return the language of a tag without its region or script: `pt` of `pt-BR`."""
    return tag.partition("-")[0].lower()
