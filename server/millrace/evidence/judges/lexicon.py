"""Words that a judge knows: function words, yes and no, negations, opposites, refusals. In five languages."""

import re


def listed(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


FUNCTION = listed(
    "a an the this that these those it it's its is are was were be been being am do does did has have had having i i'm "
    "you you're you'll we we're they there here and or of in on at to for from with by as so then than into onto under "
    "our your my their his her he she us them which who whom whose what where when how will would can could may might "
    "should shall must about around roughly approximately just also currently please sure here's that's answer "
    "der die das den dem des ein eine einen einem einer ist sind war waren wird werden wurde und oder von vom zu zum "
    "zur im in am an auf für mit bei es er sie wir ihr sich hat haben etwa rund beträgt als auch ihre ihr ihren "
    "le la les l un une des du de d est sont était il elle on nous vous ce c'est cette et ou à au aux en dans pour par "
    "sur avec qui que se s y a environ se "
    "el los las lo una unos unas es son era fue del al se su sus con por para en que o "
    "的 是 了 在 呢 吗 就 都 也 我 们 这 那 它 他 她 有"
)
ENGLISH = listed("the of and to is are it that you with for this your from which")
YES = listed("yes yeah yep correct true ja jawohl oui si sí")
NO = listed("no nope nein non incorrect false")
_YES_CJK = re.compile(r"^(?:是的|是[，,。.]|对|可以|能[，,。.]|会[，,。.]|支持|当然)")
_NO_CJK = re.compile(r"^(?:不|没有|并不|否)")
NEGATIONS = listed(
    "not no never none nothing neither nor cannot can't don't doesn't didn't isn't aren't wasn't weren't won't "
    "wouldn't shouldn't couldn't hasn't haven't without nicht kein keine keinen keiner keinem nie ohne "
    "ne n'est n'a pas jamais sans aucun aucune nunca sin ningún ninguna ni 不 没 无 未 非"
)
# After these, "yes" and "no" are not the whole answer.
HEDGES = listed(
    "but unless only if however although though usually sometimes partly depends aber nur wenn teilweise "
    "mais seulement sauf pero solo salvo 但 除 只"
)
OPPOSITES: dict[str, frozenset[str]] = {}
for _pair in """
on off|left right|up down|before after|above below|over under|increase decrease|increases decreases|more less|
most least|always never|allowed forbidden|allowed prohibited|open closed|open shut|opens closes|
enabled disabled|enable disable|
true false|first last|minimum maximum|min max|input output|optional mandatory|optional required|safe dangerous|
hot cold|rise fall|rises falls|raise lower|raises lowers|faster slower|higher lower|larger smaller|longer shorter|
early late|buyer seller|customer seller|inside outside|import export|possible impossible|same different|north south|
east west|buy sell|win lose|free paid|public private|clockwise counterclockwise|success failure|positive negative|
links rechts|vor nach|auf zu|offen geschlossen|geöffnet geschlossen|an aus|mehr weniger|immer nie|steigt sinkt|
steigen sinken|erlaubt verboten|über unter|gauche droite|avant après|ouvert fermé|plus moins|toujours jamais|
monte descend|izquierda derecha|antes después|abierto cerrado|más menos|siempre nunca|sube baja|permitido prohibido|
左 右|上 下|前 后|开 关|大 小|多 少|高 低
""".replace("\n", "").split("|"):
    _one, _two = _pair.split()
    OPPOSITES[_one] = OPPOSITES.get(_one, frozenset()) | {_two}
    OPPOSITES[_two] = OPPOSITES.get(_two, frozenset()) | {_one}
ABOUT = re.compile(
    r"\b(?:about|around|roughly|approximately|nearly|almost|circa|ca|etwa|rund|ungefähr|environ|unos|unas|"
    r"aproximadamente)\b|[~≈]|大约|约|左右"
)
# Questions whose answer is a name.
ASKS_NAME = re.compile(
    r"\b(?:who|whom|whose|which|where|name|what(?:'s|\s+is|\s+are|\s+was)|wer|wie heißt|welche[rsnm]?|wo|qui|quelle?s?|"
    r"où|quién(?:es)?|cuál(?:es)?|dónde)\b|谁|哪|什么"
)
ASKS_OR = re.compile(r"\b(?:or|oder|ou|o|isn't|aren't|don't|doesn't|can't|won't|mind|not|nicht|pas)\b|还是")
ASKS_ORDER = re.compile(
    r"\b(?:order|steps?|rank(?:ed|ing)?|sequence|first|last|oldest|largest|smallest|from|by|outwards|"
    r"reihenfolge|schritte|ordre|étapes|orden|pasos)\b|顺序|步骤"
)
ASKS_SEQUENCE = re.compile(
    r"\b(?:order|steps?|rank(?:ed|ing)?|sequence|outwards|first|reihenfolge|schritte|ordre|étapes|orden|pasos)\b|顺序|步骤"
)
ASKS_NUMBER = re.compile(
    r"\bhow\s(?:many|much|far|long|old|tall|big|high|fast|often|late|soon|deep|heavy|wide)\b|\bwhen\b|"
    r"\b(?:what|which)(?:\sis|'s)?\s(?:the\s)?(?:\w+\s){0,2}(?:year|time|date|day|price|cost|rate|fee|population|speed|"
    r"temperature|point|distance|number|version|deadline|release|limit|percentage|terms)\b|\bcosts?\b|\d%|"
    r"\bwie\s(?:viele?|hoch|lange?|weit|alt|groß|oft|schnell|teuer)\b|\bwann\b|\bkostet\b|\bcombien\b|\bquand\b|"
    r"\b(?:prix|superficie)\b|\bcuánt[oa]s?\b|\bcuándo\b|\bprecio\b|多少|几|什么时候|多久|多大|价"
)
_ASKS_YES_OR_NO = re.compile(
    r"^(?:is|are|was|were|do|does|did|can|could|may|will|should|must|has|have|am|ist|sind|kann|können|darf|muss|hat|"
    r"haben|gibt|est-ce\sque|puis-je|peut-on|le|la|les|es|está|son|puedo|puede|hay|tiene)\b|[吗]"
)
_REFUSES = re.compile(
    r"(?:i\s(?:can't|cannot|can\snot|do\snot|don't|am\snot|was\snot|won't|will\snot)|i'm\s(?:not|unable)|"
    r"i\sam\s(?:not\s)?(?:un)?able|i'd\srather\snot)"
    r"\s?(?:\w+\s){0,2}(?:help|assist|access|able|know|sure|provide|look\sup|see|open|browse|answer|give|tell|recommend|process|translate|check|information|joke|"
    r"have\s(?:any\s)?(?:access|information|real)|to\s)|"
    r"(?:habe\sich|ich\shabe)\skeine|kann\sich\snicht|ich\skann\s(?:\w+\s){0,7}nicht|ich\sweiß\s(?:\w+\s)?nicht|"
    r"je\sn'ai\spas|je\sne\s(?:peux|sais|suis)|no\s(?:tengo\sacceso|puedo|sé)|我(?:无法|不能|不知道|没有办法)"
)
_OPENING = 160  # characters in which a refusal is


def refuses(folded: str) -> bool:
    """Whether an answer says at its beginning that it gives none."""
    return _REFUSES.search(folded[:_OPENING]) is not None


def asks_yes_or_no(asked: str) -> bool:
    """Whether a folded question may be answered by yes or no, and by neither of two things."""
    return _ASKS_YES_OR_NO.search(asked) is not None and ASKS_OR.search(asked) is None


def yes_or_no(folded: str, words: list[str]) -> bool | None:
    """Return whether folded text begins with yes or with no; None if with neither, or with a condition after it."""
    if not words:
        return None
    found = True if words[0] in YES or _YES_CJK.match(folded) else None
    if found is None and (words[0] in NO or _NO_CJK.match(folded)):
        found = False
    if found is None or not HEDGES.isdisjoint(words[1:3]):
        return None
    return found
